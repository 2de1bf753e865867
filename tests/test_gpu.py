"""Results on a CUDA device, compared with the CPU, and host synchronizations."""

import pytest
import torch
from torch.nn.functional import interpolate

from host_reads import trace
from ovsr_gpu import Config, FeatureConfig
from ovsr_gpu.image_batch import ImageBatch
from ovsr_gpu.kernels.components import absorb_small, connected_components
from ovsr_gpu.kernels.crop_resize import crop_resize
from ovsr_gpu.kernels.linkage import FULL_GRAPH_METHODS, full_graph_linkage, grid_edges, pixel_graph_linkage
from ovsr_gpu.kernels.trees import cut
from ovsr_gpu.runtime.async_copy import PendingTensors, to_device

pytestmark = pytest.mark.gpu


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_pixel_graph_equals_cpu(backend):
    points, edges = random(4, 400, 16), grid_edges(20, 20, "4", torch.device("cpu"))
    tree = pixel_graph_linkage(points, edges)
    found = pixel_graph_linkage(points.cuda(), edges.cuda(), backend=backend)
    torch.testing.assert_close(found.heights.cpu(), tree.heights)
    assert torch.equal(found.children.cpu(), tree.children)
    count = torch.tensor([1, 5, 20, 400])
    assert torch.equal(cut(found.children, count.cuda()).cpu(), cut(tree.children, count))


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("method", FULL_GRAPH_METHODS)
def test_full_graph_equals_cpu(method, backend):
    tree = full_graph_linkage(random(3, 200, 8), method)
    found = full_graph_linkage(random(3, 200, 8).cuda(), method, backend=backend)
    torch.testing.assert_close(found.heights.cpu(), tree.heights, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.children.cpu(), tree.children)


def test_components_equal_cpu():
    labels = (random(3, 30, 30) * 2).round().long()
    expected = absorb_small(connected_components(labels), 9)
    assert torch.equal(absorb_small(connected_components(labels.cuda()), 9).cpu(), expected)


def test_crops_equal_cpu():
    images = (random(2, 3, 90, 120) * 60 + 120).clamp(0, 255).byte()
    boxes = torch.tensor([[0, 0, 120, 90], [10, 5, 30, 85], [40, 40, 48, 48]])
    arguments = {"resized": torch.full((3, 2), 64), "offset": torch.zeros(3, 2).long()}
    expected = crop_resize(images, torch.tensor([0, 1, 0]), boxes, 64, **arguments)
    on_device = {name: value.cuda() for name, value in arguments.items()}
    found = crop_resize(images.cuda(), torch.tensor([0, 1, 0]).cuda(), boxes.cuda(), 64, **on_device)
    assert (found.cpu() - expected).abs().max() <= 1


@pytest.fixture(params=["default", "paper"])
def segmenter_on(request, tiny_clip, random_backbone):
    """Return a function that makes a Segmenter of random networks on a device."""
    from ovsr_gpu import Segmenter  # imports the packages of the networks

    config = Config(preset=request.param, features=FeatureConfig(input_size=128, grid_size=16))
    return lambda device: Segmenter.from_pretrained(
        config, backbone_weights=random_backbone, clip=tiny_clip, device=device
    )


def blobs() -> torch.Tensor:
    smooth = interpolate(random(4, 3, 5, 6), (120, 160), mode="bicubic")
    return (smooth * 60 + 120 + 5 * random(4, 3, 120, 160)).clamp(0, 255).byte()


def test_whole_method_equals_cpu(segmenter_on):
    on_cpu, on_gpu = (segmenter_on(device)(blobs(), "a; b; c") for device in ("cpu", "cuda"))
    assert (on_cpu.region_map == on_gpu.region_map.cpu()).float().mean() > 0.99


def test_stream_equals_calls(segmenter_on):
    segmenter = segmenter_on("cuda")
    batches = [[*blobs()[:n]] for n in (1, 4, 2, 3)]
    for streamed, batch in zip(segmenter.stream(batches, "a; b; c"), batches, strict=True):
        called = segmenter(batch, "a; b; c")
        assert all(map(torch.equal, streamed.class_map, called.class_map))
        assert torch.equal(streamed.regions.embeddings, called.regions.embeddings)


def test_features_are_not_rounded_to_tf32(segmenter_on):
    segmenters = [segmenter_on(device) for device in ("cpu", "cuda")]
    on_cpu, on_gpu = (segmenter.pipeline.segment(ImageBatch.of(blobs(), segmenter.device)) for segmenter in segmenters)
    torch.testing.assert_close(on_gpu.singular_values.cpu(), on_cpu.singular_values, rtol=1e-4, atol=1e-2)


def test_attention_is_fused(segmenter_on):
    clip = segmenter_on("cuda").clip
    assert clip.dtype == torch.float16
    pixels = torch.zeros(2, 3, clip.image_size, clip.image_size, device="cuda")
    clip.encode_image(pixels)
    with torch.profiler.profile() as profile:
        clip.encode_image(pixels)
    names = {event.name for event in profile.events()}
    assert any("_scaled_dot_product_flash" in name or "_scaled_dot_product_efficient" in name for name in names)


def test_copies_are_asynchronous():
    source = random(2000, 2000)
    product = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    for _ in range(20):
        product = product @ product / 64
    [sent] = to_device([source.pin_memory()], torch.device("cuda"))
    pending = PendingTensors(sent * 2)
    assert not torch.cuda.current_stream().query()  # the products are still running
    assert torch.equal(pending.wait()[0], source * 2)


def test_no_host_synchronization(segmenter_on):
    """From images on the device to class maps there, only the number of regions is copied to the host, by an event."""
    segmenter, images = segmenter_on("cuda"), blobs().cuda()
    expected = segmenter(images, "a; b; c")  # warm-up: compilation and class embeddings
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            images[0, 0, 0, 0].item()  # the debug mode detects a synchronization
        prediction = segmenter(images, "a; b; c")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(prediction.class_map, expected.class_map)


def test_no_host_synchronization_in_a_trace(segmenter_on):
    """A profiler trace also shows synchronizations that the debug mode of the previous test does not detect."""
    segmenter, images = segmenter_on("cuda"), blobs().cuda()
    segmenter(images, "a; b; c")
    traced = trace(lambda: segmenter(images, "a; b; c"))
    assert "ovsr::recognition" in traced.names
    assert not traced.synchronizations
    assert len(traced.copies_to_host) == 1  # the number of regions
