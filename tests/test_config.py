from dataclasses import FrozenInstanceError

import pytest

from ovsr_gpu import ClusteringConfig, Config, FeatureConfig, LatentConfig, ModelConfig, RecognitionConfig, RegionConfig


def test_presets_differ_where_the_paper_and_the_measurements_do():
    default, paper = Config(), Config(preset="paper")
    assert default.clustering.count_rule == "merge_cost" and default.recognition.shared_rank is None
    assert paper.clustering.count_rule == "effective_rank" and paper.recognition.shared_rank is not None
    assert default.features == paper.features and default.regions == paper.regions


def test_quality_sees_each_region_on_three_backgrounds():
    quality = Config(preset="quality")
    assert quality.regions.backgrounds == ("mean", "blur", "keep") and quality.recognition.merge_regions
    assert Config().regions.backgrounds == ("mean",) and Config(preset="fine").regions.ancestors


def test_nested_regions_have_a_bound():
    with pytest.raises(ValueError, match=r"max_clusters with regions.ancestors must lie in \[1, 63\]; got 64"):
        Config(regions=RegionConfig(ancestors=True), clustering=ClusteringConfig(max_clusters=64))


def test_a_given_group_wins_over_the_preset():
    config = Config(preset="paper", clustering=ClusteringConfig(count_rule="fixed"))
    assert config.clustering.count_rule == "fixed"
    assert config.recognition == Config(preset="paper").recognition


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(preset="best"), "preset must be one of 'default', 'paper', 'quality', 'fine'; got 'best'"),
        (lambda: FeatureConfig(levels=()), "features.levels"),
        (lambda: FeatureConfig(levels=(3, 9)), "features.levels"),
        (lambda: FeatureConfig(input_size=8), "features.input_size"),
        (lambda: FeatureConfig(grid_size=500), "features.grid_size"),
        (lambda: LatentConfig(rank=0), "latents.rank"),
        (lambda: ClusteringConfig(linkage="median"), "clustering.linkage"),
        (lambda: ClusteringConfig(linkage="weighted"), "connectivity 'full'"),
        (lambda: ClusteringConfig(connectivity="6"), "clustering.connectivity"),
        (lambda: ClusteringConfig(count_rule="magic"), "clustering.count_rule"),
        (lambda: ClusteringConfig(count_parameter=-1), "clustering.count_parameter"),
        (lambda: ClusteringConfig(max_clusters=0), "clustering.max_clusters"),
        (lambda: RegionConfig(min_area=2), "regions.min_area"),
        (lambda: RegionConfig(box="round"), "regions.box"),
        (lambda: RegionConfig(background="green"), "regions.background"),
        (lambda: RegionConfig(background=("mean", "green")), "regions.background"),
        (lambda: RegionConfig(background=()), "regions.background must be one background or more"),
        (lambda: RegionConfig(boundaries="round"), "regions.boundaries"),
        (lambda: RegionConfig(ancestors=True, encoder="dense"), "regions.ancestors needs regions.encoder 'crop'"),
        (lambda: RecognitionConfig(templates=("a photo",)), "recognition.templates"),
        (lambda: RecognitionConfig(templates="a {}"), "recognition.templates"),
        (lambda: RecognitionConfig(something_else=("a", " ")), "recognition.something_else"),
        (lambda: RecognitionConfig(something_else="else"), "recognition.something_else"),
        (lambda: RecognitionConfig(shared_rank=0), "recognition.shared_rank"),
        (lambda: RecognitionConfig(threshold=1.5), "recognition.threshold"),
        (lambda: RecognitionConfig(synonyms="sum"), "recognition.synonyms"),
        (lambda: RecognitionConfig(logit_scale=-1), "recognition.logit_scale"),
        (lambda: RecognitionConfig(background=True), "recognition.background needs recognition.something_else"),
        (lambda: RecognitionConfig(area_threshold=0.1), "area_threshold needs recognition.background"),
        (
            lambda: RecognitionConfig(area_threshold=2, background=True, something_else=()),
            "recognition.area_threshold must lie in",
        ),
        (lambda: RegionConfig(encoder="crops"), "regions.encoder"),
        (lambda: ModelConfig(batch=0), "models.batch"),
    ],
)
def test_out_of_range(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        Config().preset = "paper"
