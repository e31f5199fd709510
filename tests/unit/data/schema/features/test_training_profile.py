"""Training profiles: parts merge into the whole."""

from data.schema.features.training_profile import FeatureProfile, TrainingProfile, merge_profiles


def test_parts_merge_into_the_whole():
    """Rows add up, ranges widen, and a word stays unused only while no part has used it; parts may be empty."""
    parts = [
        TrainingProfile(rows=3, features={"x": FeatureProfile(missing=1, low=2.0, high=5.0)}),
        TrainingProfile(rows=0, features={"x": FeatureProfile()}),
        TrainingProfile(rows=2, features={"x": FeatureProfile(low=-1.0, high=4.0)}),
    ]
    whole = merge_profiles(parts)
    assert whole == TrainingProfile(rows=5, features={"x": FeatureProfile(missing=1, low=-1.0, high=5.0)})
    words = FeatureProfile(unknown=2, unused=("a", "b")).merge(FeatureProfile(unknown=1, unused=("b", "c")))
    assert words == FeatureProfile(unknown=3, unused=("b",))
