import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from ovsr_gpu import ClusteringConfig, Config, FeatureConfig, LatentConfig, ModelConfig, RecognitionConfig, RegionConfig
from ovsr_gpu.config import COUNT_PARAMETERS


def test_presets_differ_where_the_paper_and_the_measurements_do():
    default, paper = Config(), Config(preset="paper")
    assert default.clustering.count_rule == "merge_cost" and default.recognition.shared_rank is None
    assert paper.clustering.count_rule == "effective_rank" and paper.recognition.shared_rank is not None
    assert default.features == paper.features and default.regions == paper.regions


def test_quality_encodes_each_region_on_three_backgrounds():
    quality = Config(preset="quality")
    assert quality.regions.backgrounds == ("mean", "blur", "keep") and quality.recognition.merge_regions
    assert Config().regions.backgrounds == ("mean",) and Config(preset="fine").regions.ancestors


def test_ancestors_limit_the_number_of_clusters():
    with pytest.raises(ValueError, match=r"max_clusters with regions.ancestors must lie in \[1, 63\]; got 64"):
        Config(regions=RegionConfig(ancestors=True), clustering=ClusteringConfig(max_clusters=64))


def test_explicit_fields_override_the_preset_and_the_others_keep_it():
    config = Config(preset="fine", regions=RegionConfig(min_area=0.01), recognition=RecognitionConfig(threshold=0.3))
    assert config.regions == RegionConfig(min_area=0.01, ancestors=True, context=0.05)
    assert config.recognition == RecognitionConfig(threshold=0.3, merge_regions=True)
    assert config.clustering == Config(preset="fine").clustering

    paper = Config(preset="paper", clustering=ClusteringConfig(count_parameter=0.45))
    assert (paper.clustering.count_rule, paper.clustering.count_parameter) == ("effective_rank", 0.45)


@pytest.mark.parametrize("group", ["clustering", "regions", "recognition"])
@pytest.mark.parametrize("preset", ["paper", "quality", "fine"])
def test_an_explicit_default_overrides_the_preset(preset, group):
    default = getattr(Config(), group)
    explicit = type(default)(**asdict(default))
    assert getattr(Config(preset=preset, **{group: explicit}), group) == default
    assert getattr(Config(preset=preset, **{group: type(default)()}), group) == getattr(Config(preset=preset), group)


def test_one_explicit_default_overrides_one_field():
    config = Config(preset="fine", regions=RegionConfig(context=0.15))
    assert config.regions == RegionConfig(context=0.15, ancestors=True)


def test_another_count_rule_does_not_take_over_the_parameter_of_the_preset():
    fine = Config(preset="fine", clustering=ClusteringConfig(count_rule="elbow")).clustering
    assert fine.count_parameter is None and fine.effective_count_parameter == COUNT_PARAMETERS["elbow"]
    assert (
        Config(preset="fine", clustering=ClusteringConfig(count_rule="merge_cost")).clustering.count_parameter == 0.01
    )
    assert Config(preset="fine", clustering=ClusteringConfig(linkage="average")).clustering.count_parameter == 0.01


def test_a_preset_and_an_explicit_field_that_do_not_fit():
    with pytest.raises(ValueError, match=r"regions\.ancestors needs regions\.encoder 'crop'; got 'dense'"):
        Config(preset="fine", regions=RegionConfig(encoder="dense"))


def test_the_groups_of_a_config_are_complete():
    fine = Config(preset="fine")
    assert Config(regions=fine.regions).regions == fine.regions
    assert Config(preset="fine", regions=replace(fine.regions, ancestors=False)).regions.context == 0.05
    assert not Config(preset="fine", regions=replace(fine.regions, ancestors=False)).regions.ancestors
    assert replace(fine, models=ModelConfig(batch=3)).regions == fine.regions
    assert replace(fine, features=FeatureConfig(grid_size=20)).features.grid_size == 20


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda group: pickle.loads(pickle.dumps(group))])
def test_a_copy_remembers_the_explicit_fields(copied):
    regions = copied(RegionConfig(context=0.15))
    assert Config(preset="fine", regions=regions).regions == RegionConfig(context=0.15, ancestors=True)


def test_groups_are_ordinary_dataclasses():
    assert RegionConfig() == RegionConfig(min_area=0.005) and hash(RegionConfig()) == hash(RegionConfig(min_area=0.005))
    assert RegionConfig() != RegionConfig(min_area=0.01)
    assert RegionConfig().context == 0.15
    assert repr(LatentConfig()) == "LatentConfig(rank=16, scaled=True, driver='gram')"
    assert asdict(LatentConfig(rank=16)) == {"rank": 16, "scaled": True, "driver": "gram"}
    assert Config(preset="fine", regions=RegionConfig(context=0.05)) == Config(preset="fine")
    assert hash(Config(preset="fine")) == hash(Config(preset="fine", regions=RegionConfig(ancestors=True)))
    with pytest.raises(TypeError, match="area"):
        RegionConfig(area=0.1)


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
        (lambda: RecognitionConfig(first_class_is_background=True), "recognition.first_class_is_background needs"),
        (lambda: RecognitionConfig(area_threshold=0.1), "area_threshold needs recognition.first_class"),
        (
            lambda: RecognitionConfig(area_threshold=2, first_class_is_background=True, something_else=()),
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
