"""Figures about samples. Not the FID and IS of the papers: those need their Inception network.

On features of a small classifier trained here they compare models on one data set with one another, no
more. `inception_features` takes the weights of an Inception network from a file, if the user has one.
"""

from genfast.metrics.distances import frechet_distance as frechet_distance
from genfast.metrics.distances import precision_recall as precision_recall
from genfast.metrics.distances import wasserstein_1d_samples as wasserstein_1d_samples
from genfast.metrics.features import FeatureClassifier as FeatureClassifier
from genfast.metrics.features import inception_features as inception_features
from genfast.metrics.features import train_feature_classifier as train_feature_classifier
from genfast.metrics.modes import ModeCounts as ModeCounts
from genfast.metrics.modes import mode_counts as mode_counts
