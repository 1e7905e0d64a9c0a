"""The classical models of the zoo: kinds and options of scikit-learn, XGBoost and LightGBM."""

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


def _stacking() -> Any:
    from sklearn.ensemble import StackingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.tree import DecisionTreeRegressor

    return StackingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3, random_state=0))], Ridge())


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
    estimator("logistic-two", _linear("LogisticRegression"), "two", BOTH),
    estimator("logistic-words", _linear("LogisticRegression"), "words", BOTH, "labels are words"),
    estimator("logistic-from-one", _linear("LogisticRegression"), "from-one", BOTH, "labels begin at 1"),
    estimator("logistic-signs", _linear("LogisticRegression"), "signs", BOTH, "labels are -1 and 1"),
    estimator("ridge", _linear("Ridge"), "real", ONE),
    estimator("ridge-several", _linear("Ridge"), "several-reals", ONE, "two numbers a row"),
    estimator("lasso", _linear("Lasso", alpha=0.01), "real", ONE),
    estimator("huber", _linear("HuberRegressor"), "real", ONE),
    estimator("poisson", _linear("PoissonRegressor"), "counts", ONE, "an exponential link", positive),
    estimator("gamma", _linear("GammaRegressor"), "positive", ONE, "an exponential link", positive),
    estimator("sgd-classifier", _linear("SGDClassifier", loss="log_loss", random_state=0), "three", BOTH),
    estimator(
        "svc",
        _from("sklearn.svm", "SVC", decision_function_shape="ovo"),
        "three",
        ("predict", "decision_function"),
        "votes of pairs of classes",
    ),
    estimator("svr", _from("sklearn.svm", "SVR"), "real", ONE, rtol=1e-3, atol=1e-4),
    estimator("knn", _from("sklearn.neighbors", "KNeighborsClassifier", n_neighbors=3), "three", BOTH, "a search"),
    estimator("knn-regressor", _from("sklearn.neighbors", "KNeighborsRegressor", n_neighbors=4), "real", ONE),
    estimator("naive-bayes", _from("sklearn.naive_bayes", "GaussianNB"), "three", BOTH, rtol=1e-3),
    estimator("tree", _from("sklearn.tree", "DecisionTreeClassifier", max_depth=5, random_state=0), "three", BOTH),
    estimator(
        "forest", _from("sklearn.ensemble", "RandomForestClassifier", n_estimators=8, random_state=0), "words", BOTH
    ),
    estimator(
        "extra-trees", _from("sklearn.ensemble", "ExtraTreesRegressor", n_estimators=8, random_state=0), "real", ONE
    ),
    estimator(
        "boosting",
        _from("sklearn.ensemble", "GradientBoostingClassifier", n_estimators=9, random_state=0),
        "three",
        BOTH,
    ),
    estimator(
        "boosting-regressor",
        _from("sklearn.ensemble", "GradientBoostingRegressor", n_estimators=9, random_state=0),
        "real",
        ONE,
    ),
    estimator(
        "ada-boost", _from("sklearn.ensemble", "AdaBoostClassifier", n_estimators=5, random_state=0), "two", BOTH
    ),
    estimator("bagging", _from("sklearn.ensemble", "BaggingRegressor", n_estimators=4, random_state=0), "real", ONE),
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
        "forest-several",
        _from("sklearn.ensemble", "RandomForestRegressor", n_estimators=5, random_state=0),
        "several-reals",
        ONE,
        "two numbers a row",
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
    estimator("discriminant", _from("sklearn.discriminant_analysis", "LinearDiscriminantAnalysis"), "three", BOTH),
    estimator("scaled-logistic", _pipeline(_SCALER, _linear("LogisticRegression")), "three", BOTH, "a pipeline"),
    estimator("voting", _voting, "three", BOTH, "several models vote"),
    estimator("stacking", _stacking, "real", ONE, "a model over models"),
    estimator("xgboost-two", _from("xgboost", "XGBClassifier", n_jobs=1, n_estimators=9, max_depth=3), "two", BOTH),
    estimator("xgboost-three", _from("xgboost", "XGBClassifier", n_jobs=1, n_estimators=5, max_depth=3), "three", BOTH),
    estimator(
        "xgboost-missing",
        _from("xgboost", "XGBClassifier", n_jobs=1, n_estimators=9, max_depth=3),
        "missing",
        BOTH,
        "NaN means missing",
        with_missing,
    ),
    estimator(
        "xgboost-regressor", _from("xgboost", "XGBRegressor", n_jobs=1, n_estimators=9, max_depth=3), "real", ONE
    ),
    estimator("lightgbm-two", _from("lightgbm", "LGBMClassifier", n_jobs=1, n_estimators=9, verbose=-1), "two", BOTH),
    estimator(
        "lightgbm-missing",
        _from("lightgbm", "LGBMClassifier", n_jobs=1, n_estimators=9, verbose=-1),
        "missing",
        BOTH,
        "NaN means missing",
        with_missing,
    ),
    estimator(
        "lightgbm-regressor", _from("lightgbm", "LGBMRegressor", n_jobs=1, n_estimators=9, verbose=-1), "real", ONE
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
