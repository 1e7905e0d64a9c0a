"""The classical models of the zoo: one for each kind of graph that their converters write."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .estimators import estimator, positive, table, with_missing
from .model import Tensors, ZooModel

BOTH = ("predict", "predict_proba")
ONE = ("predict",)
CITIES = np.array(["Köln", "New York", "", "São Paulo"], object)
TEXTS = np.array(["good film", "bad film", "a good, good day", "rain again", "nothing happens", ""], object)


def _linear(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn import linear_model

        return getattr(linear_model, name)(**options)

    return make


def _from(module: str, name: str, **options: Any) -> Callable[[], Any]:
    """A maker of ``module.name(**options)``; the module is imported when the model is made."""

    def make() -> Any:
        return getattr(import_module(module), name)(**options)

    return make


def _pipeline(*steps: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.pipeline import make_pipeline

        return make_pipeline(*(step() for step in steps))

    return make


def _voting() -> Any:
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB

    return VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", flatten_transform=False)


def _person(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    return {
        "age": random.integers(0, 90, (rows, 1)).astype(np.float32),
        "visits": random.integers(0, 9, (rows, 1)),
        "city": CITIES[random.integers(0, len(CITIES), (rows, 1))],
    }


def _frame(inputs: Tensors) -> Any:
    return import_module("pandas").DataFrame({name: array[:, 0] for name, array in inputs.items()})


def _person_model() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["age", "visits"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


def _text(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    return {"text": TEXTS[random.integers(0, len(TEXTS), (rows, 1))]}


def _text_model() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression())


_SCALER = _from("sklearn.preprocessing", "StandardScaler")

CLASSICAL: tuple[ZooModel, ...] = (
    estimator("logistic-words", _linear("LogisticRegression"), "words", BOTH, "labels are words"),
    estimator("logistic-signs", _linear("LogisticRegression"), "signs", BOTH, "labels are -1 and 1"),
    estimator("ridge", _linear("Ridge"), "real", ONE),
    estimator("poisson", _linear("PoissonRegressor"), "counts", ONE, "an exponential link", positive),
    estimator(
        "svc",
        _from("sklearn.svm", "SVC", decision_function_shape="ovo"),
        "three",
        ("predict", "decision_function"),
        "votes of pairs of classes",
    ),
    estimator("knn", _from("sklearn.neighbors", "KNeighborsClassifier", n_neighbors=3), "three", BOTH, "a search"),
    estimator("naive-bayes", _from("sklearn.naive_bayes", "GaussianNB"), "three", BOTH, rtol=1e-3),
    estimator(
        "forest", _from("sklearn.ensemble", "RandomForestClassifier", n_estimators=8, random_state=0), "words", BOTH
    ),
    estimator(
        "isolation-forest",
        _from("sklearn.ensemble", "IsolationForest", n_estimators=9, random_state=0),
        "real",
        ("predict", "decision_function"),
        "the answer is a sign and a score",
    ),
    estimator(
        "perceptron",
        _from("sklearn.neural_network", "MLPClassifier", hidden_layer_sizes=(9,), max_iter=60, random_state=0),
        "three",
        BOTH,
    ),
    estimator(
        "k-means",
        _from("sklearn.cluster", "KMeans", n_clusters=3, n_init=1, random_state=0),
        "real",
        ("predict", "transform"),
        "clusters and distances",
    ),
    estimator(
        "pca",
        _from("sklearn.decomposition", "PCA", n_components=2),
        "real",
        ("transform",),
        "a transformer, no predictor",
    ),
    estimator("scaled-logistic", _pipeline(_SCALER, _linear("LogisticRegression")), "three", BOTH, "a pipeline"),
    estimator("voting", _voting, "three", BOTH, "several models vote"),
    estimator(
        "xgboost-missing",
        _from("xgboost", "XGBClassifier", n_jobs=1, n_estimators=9, max_depth=3),
        "missing",
        BOTH,
        "NaN means missing",
        with_missing,
    ),
    estimator(
        "lightgbm-missing",
        _from("lightgbm", "LGBMClassifier", n_jobs=1, n_estimators=9, verbose=-1),
        "missing",
        BOTH,
        "NaN means missing",
        with_missing,
    ),
    table(
        "named-columns",
        _person_model,
        _person,
        lambda data: (data["age"][:, 0] > 40).astype(np.int64),
        BOTH,
        _frame,
        "named columns of numbers and words",
    ),
    table(
        "tf-idf",
        _text_model,
        _text,
        lambda data: np.char.find(data["text"][:, 0].astype(str), "good") >= 0,
        BOTH,
        lambda inputs: inputs["text"][:, 0],
        "text in, a class out",
        decidable=False,
    ),
)
