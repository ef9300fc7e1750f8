"""Detectors: the embedded network against TensorFlow.js, files of others, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reidlib.deploy import Detections, open_detector
from reidlib.deploy.detection import _letterboxed
from reidlib.deploy.nanodet import BINS, STRIDES, fitted, load_nanodet
from reidlib.errors import ReIDError
from reidlib.evaluation import box_average_precision, box_overlaps
from reidlib.synthcity import draw_frame, plan_world

REFERENCE = Path(__file__).with_name("nanodet_tfjs.npz")


@pytest.fixture(scope="module")
def street():
    """A drawn frame with four people, and their boxes (left, top, right, bottom)."""
    world = plan_world("tiny")
    people = [world.identity(number) for number in (1, 2, 3, 4)]
    frame, boxes = draw_frame(world.cameras[0], people, seed=3)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], axis=1)
    return frame, corners.astype(np.float32)


def test_the_network_computes_what_its_original_does(street):
    # Made once by TensorFlow.js from the original files, on this part of the frame.
    frame = street[0][60:476, 200:616]
    reference = np.load(REFERENCE)
    with torch.inference_mode():
        scores, boxes = load_nanodet()(torch.tensor(frame).permute(2, 0, 1)[None])
    assert np.abs(scores[0].numpy() - reference["scores"]).max() < 1e-4
    assert reference["scores"].max() > 0.6
    starts = np.cumsum([0] + [(416 // stride) ** 2 for stride in STRIDES])
    for cell, logits in zip(reference["cells"], reference["distances"], strict=True):
        level = int(np.searchsorted(starts, cell, side="right")) - 1
        stride = STRIDES[level]
        row, column = divmod(cell - starts[level], 416 // stride)
        share = np.exp(logits.reshape(4, BINS).astype(np.float64))
        sides = (share / share.sum(axis=1, keepdims=True)) @ np.arange(BINS) * stride
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        expected = [x - sides[0], y - sides[1], x + sides[2], y + sides[3]]
        assert np.abs(boxes[0, cell].numpy() - expected).max() < 0.05


def test_drawn_people_are_found(street):
    frame, truth = street
    found = open_detector(min_score=0.05)(frame)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= 0.05).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, [0, 2]] <= frame.shape[1]).all()
    assert box_average_precision([found], [truth]) > 0.9
    assert box_average_precision([found], [truth[:, [0, 1, 0, 1]]]) == 0.0


def test_a_frame_is_scaled_whole_and_filled_up():
    frame = torch.full((3, 100, 50), 7, dtype=torch.uint8)
    picture, scale = fitted(frame, 200)
    assert scale == 2.0
    assert picture.shape == (1, 3, 224, 128)
    assert (picture[..., :200, :100] == 7).all()
    assert (picture[..., 200:, :] == 114).all()


def test_no_person_and_small_frames(street):
    detect = open_detector()
    for shape in ((96, 128, 3), (1, 1, 3), (3, 2000, 3)):
        assert len(detect(np.full(shape, 128, np.uint8))) == 0
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)):
        with pytest.raises(ReIDError, match=r"give \(H, W, 3\) RGB arrays"):
            detect(wrong)
    with pytest.raises(ReIDError, match="has no pixels; leave it out"):
        detect(np.zeros((0, 5, 3), np.uint8))


def test_only_what_is_a_detector_is_opened(tmp_path):
    def refused(message, *which, **settings):
        with pytest.raises(ReIDError, match=message):
            open_detector(*which, **settings)

    refused("there is no detector 'yolo'; choose nanodet", "yolo")
    refused("there is no file .*gone.onnx; correct", tmp_path / "gone.onnx")
    refused("min_score is 1.5; give a number", min_score=1.5)
    refused("min_score is nan; give a number", min_score=float("nan"))
    refused("longest is 8; give a whole number from 32", longest=8)
    (tmp_path / "text.onnx").write_text("no model")
    pytest.importorskip("onnxruntime")
    refused("text.onnx is no ONNX model", tmp_path / "text.onnx")


class Rows(torch.nn.Module):
    """A network whose output does not depend on the picture."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    def forward(self, picture):
        return self.rows + 0 * picture.mean()


def exported(rows, file, names=None):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    network = Rows(torch.as_tensor(rows, dtype=torch.float32)).eval()
    picture = torch.zeros(1, 3, 64, 96)
    torch.onnx.export(
        network, (picture,), file, input_names=["images"], dynamo=True, verbose=False
    )
    if names:
        model = onnx.load(file)
        model.metadata_props.add(key="names", value=str(names))
        onnx.save(model, file)
    return file


def test_detectors_in_onnx_files(tmp_path):
    # Two boxes of one person, one of another class, and one that is not sure.
    people = [[32, 32, 16, 32, 0.1, 0.9], [33, 32, 16, 32, 0.1, 0.8]]
    others = [[60, 32, 16, 32, 0.9, 0.1], [80, 32, 16, 32, 0.0, 0.2]]
    columns = torch.tensor([*people, *others, *[[0.0] * 6] * 3]).T[None]
    names = {0: "car", 1: "Person"}
    file = exported(columns, tmp_path / "columns.onnx", names)
    frame = np.zeros((32, 48, 3), np.uint8)  # half of what the network takes
    found = open_detector(file)(frame)
    assert np.allclose(found.boxes, [[12, 8, 20, 24]])
    assert found.scores == pytest.approx([0.9])

    sides = [[24, 16, 40, 48, 0.9, 1], [52, 16, 68, 48, 0.9, 0]]
    file = exported(torch.tensor([sides]), tmp_path / "sides.onnx", names)
    assert np.allclose(open_detector(file)(frame).boxes, [[12, 8, 20, 24]])

    # A square frame stands in the middle: 64 of 96 pixels, 16 on its left.
    square = np.zeros((32, 32, 3), np.uint8)
    assert np.allclose(open_detector(file)(square).boxes, [[4, 8, 12, 24]])

    file = exported(torch.zeros(1, 10), tmp_path / "scores.onnx")
    with pytest.raises(ReIDError, match=r"scores.onnx returns an array of \(1, 10\)"):
        open_detector(file)(frame)
    with pytest.raises(ReIDError, match="takes images of 64 x 96 pixels only"):
        open_detector(file, longest=640)
    file = exported(columns, tmp_path / "cars.onnx", {0: "car", 1: "lorry"})
    with pytest.raises(ReIDError, match="has no class person; its classes are car"):
        open_detector(file)


def test_a_frame_for_a_yolo_lies_in_the_middle_and_is_not_smoothed():
    frame = torch.randint(0, 256, (3, 54, 96), dtype=torch.uint8)
    picture, scale, corner = _letterboxed(frame, 32, None)
    assert picture.shape == (1, 3, 32, 32)
    assert (scale, corner) == (1 / 3, (0, 7))
    # At a third of the size each pixel is one of the frame: none is averaged.
    assert torch.equal(picture[0, :, 7:25], frame[:, 1::3, 1::3].float())
    assert (picture[0, :, :7] == 114).all()
    assert (picture[0, :, 25:] == 114).all()
    picture, scale, corner = _letterboxed(frame, 96, (96, 128))
    assert picture.shape == (1, 3, 96, 128)
    assert (scale, corner) == (pytest.approx(4 / 3), (0, 12))


def detections(*rows):
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def test_average_precision_of_boxes_in_closed_form():
    box, other = [0, 0, 10, 20], [50, 0, 60, 20]
    found = [detections([*box, 0.9], [*other, 0.8], [200, 0, 210, 20, 0.7])]
    truth = [np.array([box, other])]
    assert box_average_precision(found, truth) == 1.0
    # The false alarm comes first: precision 1/2, then 2/3, which is the best behind it.
    found = [detections([200, 0, 210, 20, 0.95], [*box, 0.9], [*other, 0.8])]
    assert box_average_precision(found, truth) == pytest.approx(2 / 3)
    # The second box of one person is a false alarm; the other person is missed.
    found = [detections([*box, 0.9], [*box, 0.8])]
    assert box_average_precision(found, truth) == pytest.approx(1 / 2)
    assert box_average_precision([detections()], truth) == 0.0
    # Two thirds of both boxes are common.
    found = [detections([0, 0, 10, 16, 0.9])]
    assert box_average_precision(found, [np.array([[0, 4, 10, 20]])]) == 1.0
    least = {"min_overlap": 0.61}
    assert box_average_precision(found, [np.array([[0, 4, 10, 20]])], **least) == 0.0


def test_overlaps_are_shares_of_the_union():
    box = np.array([[10.0, 10.0, 20.0, 30.0]])
    assert box_overlaps(box, box) == pytest.approx(1)
    assert box_overlaps(box, box + np.array([5, 0, 5, 0])) == pytest.approx(1 / 3)
    assert box_overlaps(box, box + 100) == 0
    assert box_overlaps(box, box[:, [0, 1, 0, 1]]) == 0


def naive_average_precision(found, truth, min_overlap):
    """The area under precision against recall, by its definition."""

    def overlap(a, b):
        wide = min(a[2], b[2]) - max(a[0], b[0])
        high = min(a[3], b[3]) - max(a[1], b[1])
        if wide <= 0 or high <= 0:
            return 0.0
        both = wide * high
        sizes = [(one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)]
        return both / (sum(sizes) - both)

    all_found = [
        (-score, frame, number)
        for frame, one in enumerate(found)
        for number, score in enumerate(one.scores.tolist())
    ]
    taken, hits = set(), []
    for _, frame, number in sorted(all_found):
        box = found[frame].boxes[number].astype(float)
        best, place = min_overlap, None
        for person, real in enumerate(truth[frame].tolist()):
            if (frame, person) not in taken and overlap(box, real) >= best:
                best, place = overlap(box, real), person
        hits.append(place is not None)
        taken.add((frame, place))
    total = sum(map(len, truth))
    area, count = 0.0, 0
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    for n, hit in enumerate(hits):
        if hit:
            count += 1
            area += max(precision[n:]) / total
    return area


def test_average_precision_of_boxes_against_its_definition():
    rng = np.random.default_rng(0)
    for _ in range(50):
        truth, found = [], []
        for _ in range(rng.integers(1, 4)):
            corner = rng.integers(0, 60, (rng.integers(0, 5), 2))
            real = np.concatenate(
                [corner, corner + rng.integers(10, 30, corner.shape)], 1
            )
            moved = real[rng.integers(0, len(real), 6)] if len(real) else real
            moved = moved + rng.integers(-4, 5, moved.shape)
            scores = rng.permutation(np.linspace(0.1, 0.9, len(moved)))
            truth.append(real)
            found.append(detections(*np.column_stack([moved, scores]).tolist()))
        if not sum(map(len, truth)):
            continue
        for least in (0.3, 0.5, 0.75):
            expected = naive_average_precision(found, truth, least)
            got = box_average_precision(found, truth, min_overlap=least)
            assert got == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_boxes_refuses_what_has_no_meaning():
    empty = np.zeros((0, 4))
    with pytest.raises(ReIDError, match="there is no person in 1 frames"):
        box_average_precision([detections()], [empty])
    with pytest.raises(ReIDError, match="2 frames were searched and 1 have boxes"):
        box_average_precision([detections()] * 2, [empty])
    with pytest.raises(ReIDError, match=r"boxes of frame 0 have shape \(1, 5\)"):
        box_average_precision([detections()], [np.zeros((1, 5))])
    with pytest.raises(ReIDError, match="min_overlap is 0; give a number"):
        box_average_precision([detections()], [np.zeros((1, 4))], min_overlap=0)
