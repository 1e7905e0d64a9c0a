"""Classical models of many kinds: estimators and options of scikit-learn, XGBoost and LightGBM, with data for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.tensors import Array

ROWS, FEATURES = 90, 5

Build = Callable[[Any, Any], Any]
"""Takes features and target, and returns a fitted estimator."""


@dataclass(frozen=True, slots=True)
class Case:
    """``target`` is the key of ``TARGETS``. ``data``: the inputs of the served model, if it is not one matrix."""

    build: Build
    target: str = "classes"
    data: Callable[[], Mapping[str, Array]] | None = field(default=None)


def features(seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(ROWS, FEATURES)).astype(np.float32)


X, FRESH = features(), features(1)
TARGETS: dict[str, Any] = {
    "two": (X[:, 0] + X[:, 1] > 0).astype(np.int64),
    "classes": np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5]).astype(np.int64),
    "words": np.array(["low", "mid", "high"])[np.digitize(X[:, 0], [-0.5, 0.5])],
    "from one": np.digitize(X[:, 0], [-0.5, 0.5]).astype(np.int64) + 1,
    "signs": np.where(X[:, 0] > 0, 1, -1).astype(np.int64),
    "value": (X[:, 0] * 2 + X[:, 1] ** 2).astype(np.float64),
    "counts": np.exp(X[:, 0] / 2).round(),
    "positive": np.exp(X[:, 0] / 2) + 0.1,
    "several": np.stack([X[:, 0] * 2, X[:, 1] - X[:, 2]], axis=1).astype(np.float64),
    "labels": np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 2] > 0.5], axis=1).astype(np.int64),
    "several classes": np.stack([np.digitize(X[:, 0], [-0.5, 0.5]), np.digitize(X[:, 1], [-1, 0, 1])], axis=1),
    "none": None,
}


def fit(make: Callable[[], Any]) -> Build:
    return lambda x, y: make().fit(x, y)


def scikit_learn() -> dict[str, Case]:
    """Return the estimators of scikit-learn by a name for the test."""
    from sklearn import (
        calibration,
        cluster,
        decomposition,
        discriminant_analysis,
        ensemble,
        feature_selection,
        gaussian_process,
        linear_model,
        mixture,
        model_selection,
        multiclass,
        multioutput,
        naive_bayes,
        neighbors,
        neural_network,
        preprocessing,
        svm,
        tree,
    )  # fmt: skip
    from sklearn.pipeline import make_pipeline

    scale = preprocessing.StandardScaler
    few = {"n_estimators": 7, "random_state": 0}
    regressors = [("line", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=3))]

    def behind_range(model: Callable[[], Any]) -> Build:
        return lambda x, y: make_pipeline(preprocessing.MinMaxScaler(), model()).fit(x, y)

    return {
        "LogisticRegression": Case(fit(linear_model.LogisticRegression)),
        "LogisticRegression two": Case(fit(linear_model.LogisticRegression), "two"),
        "LogisticRegression words": Case(fit(linear_model.LogisticRegression), "words"),
        "LogisticRegression from one": Case(fit(linear_model.LogisticRegression), "from one"),
        "LogisticRegression signs": Case(fit(linear_model.LogisticRegression), "signs"),
        "LogisticRegressionCV": Case(fit(lambda: linear_model.LogisticRegressionCV(Cs=3, cv=3))),
        "RidgeClassifier": Case(fit(linear_model.RidgeClassifier)),
        "RidgeClassifier two": Case(fit(linear_model.RidgeClassifier), "two"),
        "SGDClassifier hinge": Case(fit(lambda: linear_model.SGDClassifier(random_state=0))),
        "SGDClassifier log": Case(fit(lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0))),
        "SGDClassifier modified huber": Case(
            fit(lambda: linear_model.SGDClassifier(loss="modified_huber", random_state=0))
        ),
        "Perceptron": Case(fit(lambda: linear_model.Perceptron(random_state=0))),
        "LinearSVC": Case(fit(svm.LinearSVC)),
        "LinearSVC two": Case(fit(svm.LinearSVC), "two"),
        "LinearSVC words": Case(fit(svm.LinearSVC), "words"),
        "SVC": Case(fit(svm.SVC)),
        "SVC two": Case(fit(svm.SVC), "two"),
        "SVC linear ovo": Case(fit(lambda: svm.SVC(kernel="linear", decision_function_shape="ovo"))),
        "SVC poly": Case(fit(lambda: svm.SVC(kernel="poly"))),
        "NuSVC": Case(fit(svm.NuSVC)),
        "KNeighborsClassifier": Case(fit(neighbors.KNeighborsClassifier)),
        "KNeighborsClassifier distance": Case(fit(lambda: neighbors.KNeighborsClassifier(weights="distance"))),
        "GaussianNB": Case(fit(naive_bayes.GaussianNB)),
        "BernoulliNB": Case(fit(naive_bayes.BernoulliNB)),
        "MultinomialNB": Case(behind_range(naive_bayes.MultinomialNB)),
        "ComplementNB": Case(behind_range(naive_bayes.ComplementNB)),
        "DecisionTreeClassifier": Case(fit(lambda: tree.DecisionTreeClassifier(random_state=0))),
        "ExtraTreeClassifier": Case(fit(lambda: tree.ExtraTreeClassifier(random_state=0))),
        "RandomForestClassifier": Case(fit(lambda: ensemble.RandomForestClassifier(**few))),
        "RandomForestClassifier words": Case(fit(lambda: ensemble.RandomForestClassifier(**few)), "words"),
        "ExtraTreesClassifier": Case(fit(lambda: ensemble.ExtraTreesClassifier(**few))),
        "GradientBoostingClassifier": Case(fit(lambda: ensemble.GradientBoostingClassifier(**few))),
        "GradientBoostingClassifier two": Case(fit(lambda: ensemble.GradientBoostingClassifier(**few)), "two"),
        "HistGradientBoostingClassifier": Case(fit(lambda: ensemble.HistGradientBoostingClassifier(max_iter=7))),
        "HistGradientBoostingClassifier two": Case(
            fit(lambda: ensemble.HistGradientBoostingClassifier(max_iter=7)), "two"
        ),
        "AdaBoostClassifier": Case(fit(lambda: ensemble.AdaBoostClassifier(**few))),
        "BaggingClassifier": Case(fit(lambda: ensemble.BaggingClassifier(**few))),
        "VotingClassifier soft": Case(fit(lambda: ensemble.VotingClassifier(_voters(), voting="soft"))),
        "VotingClassifier hard": Case(fit(lambda: ensemble.VotingClassifier(_voters()))),
        "StackingClassifier": Case(fit(lambda: ensemble.StackingClassifier(_voters(), cv=2))),
        "CalibratedClassifierCV": Case(fit(lambda: calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2))),
        "MLPClassifier": Case(fit(lambda: neural_network.MLPClassifier((8,), max_iter=30, random_state=0))),
        "LinearDiscriminantAnalysis": Case(fit(discriminant_analysis.LinearDiscriminantAnalysis)),
        "QuadraticDiscriminantAnalysis": Case(fit(discriminant_analysis.QuadraticDiscriminantAnalysis)),
        "GaussianProcessClassifier": Case(fit(gaussian_process.GaussianProcessClassifier), "two"),
        "OneVsRestClassifier": Case(fit(lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()))),
        "OneVsOneClassifier": Case(fit(lambda: multiclass.OneVsOneClassifier(linear_model.LogisticRegression()))),
        "GridSearchCV": Case(
            fit(lambda: model_selection.GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1]}, cv=2))
        ),
        "RandomizedSearchCV": Case(
            fit(
                lambda: model_selection.RandomizedSearchCV(
                    linear_model.LogisticRegression(), {"C": [0.1, 1]}, n_iter=1, cv=2
                )
            )
        ),
        "multi-label RandomForest": Case(fit(lambda: ensemble.RandomForestClassifier(**few)), "labels"),
        "multi-label KNeighbors": Case(fit(neighbors.KNeighborsClassifier), "labels"),
        "multi-label MLP": Case(fit(lambda: neural_network.MLPClassifier((8,), max_iter=30, random_state=0)), "labels"),
        "multi-label OneVsRest": Case(
            fit(lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression())), "labels"
        ),
        "multi-label MultiOutput": Case(
            fit(lambda: multioutput.MultiOutputClassifier(linear_model.LogisticRegression())), "labels"
        ),
        "multi-output classes": Case(
            fit(lambda: multioutput.MultiOutputClassifier(linear_model.LogisticRegression())), "several classes"
        ),
        "LinearRegression": Case(fit(linear_model.LinearRegression), "value"),
        "LinearRegression several": Case(fit(linear_model.LinearRegression), "several"),
        "Ridge several": Case(fit(linear_model.Ridge), "several"),
        "Lasso": Case(fit(lambda: linear_model.Lasso(alpha=0.01)), "value"),
        "ElasticNet": Case(fit(lambda: linear_model.ElasticNet(alpha=0.01)), "value"),
        "BayesianRidge": Case(fit(linear_model.BayesianRidge), "value"),
        "HuberRegressor": Case(fit(linear_model.HuberRegressor), "value"),
        "PoissonRegressor": Case(fit(linear_model.PoissonRegressor), "counts"),
        "GammaRegressor": Case(fit(linear_model.GammaRegressor), "positive"),
        "TweedieRegressor": Case(fit(lambda: linear_model.TweedieRegressor(power=1.5)), "positive"),
        "QuantileRegressor": Case(fit(lambda: linear_model.QuantileRegressor(alpha=0)), "value"),
        "SGDRegressor": Case(fit(lambda: linear_model.SGDRegressor(random_state=0)), "value"),
        "RANSACRegressor": Case(fit(lambda: linear_model.RANSACRegressor(random_state=0)), "value"),
        "LinearSVR": Case(fit(svm.LinearSVR), "value"),
        "SVR": Case(fit(svm.SVR), "value"),
        "KNeighborsRegressor": Case(fit(neighbors.KNeighborsRegressor), "value"),
        "KNeighborsRegressor several": Case(fit(neighbors.KNeighborsRegressor), "several"),
        "DecisionTreeRegressor several": Case(fit(lambda: tree.DecisionTreeRegressor(random_state=0)), "several"),
        "RandomForestRegressor": Case(fit(lambda: ensemble.RandomForestRegressor(**few)), "value"),
        "RandomForestRegressor several": Case(fit(lambda: ensemble.RandomForestRegressor(**few)), "several"),
        "GradientBoostingRegressor": Case(fit(lambda: ensemble.GradientBoostingRegressor(**few)), "value"),
        "HistGradientBoostingRegressor": Case(fit(lambda: ensemble.HistGradientBoostingRegressor(max_iter=7)), "value"),
        "HistGradientBoostingRegressor poisson": Case(
            fit(lambda: ensemble.HistGradientBoostingRegressor(max_iter=7, loss="poisson")), "counts"
        ),
        "AdaBoostRegressor": Case(fit(lambda: ensemble.AdaBoostRegressor(**few)), "value"),
        "BaggingRegressor": Case(fit(lambda: ensemble.BaggingRegressor(**few)), "value"),
        "VotingRegressor": Case(
            fit(lambda: ensemble.VotingRegressor(regressors)),
            "value",
        ),
        "StackingRegressor": Case(
            fit(lambda: ensemble.StackingRegressor(regressors, cv=2)),
            "value",
        ),
        "MLPRegressor several": Case(
            fit(lambda: neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0)), "several"
        ),
        "GaussianProcessRegressor": Case(fit(lambda: gaussian_process.GaussianProcessRegressor(alpha=0.1)), "value"),
        "MultiOutputRegressor": Case(
            fit(lambda: multioutput.MultiOutputRegressor(ensemble.GradientBoostingRegressor(**few))), "several"
        ),
        "KMeans": Case(fit(lambda: cluster.KMeans(3, n_init=1, random_state=0)), "none"),
        "MiniBatchKMeans": Case(fit(lambda: cluster.MiniBatchKMeans(3, n_init=1, random_state=0)), "none"),
        "GaussianMixture": Case(fit(lambda: mixture.GaussianMixture(2, random_state=0)), "none"),
        "IsolationForest": Case(fit(lambda: ensemble.IsolationForest(**few)), "none"),
        "OneClassSVM": Case(fit(svm.OneClassSVM), "none"),
        "LocalOutlierFactor": Case(fit(lambda: neighbors.LocalOutlierFactor(novelty=True)), "none"),
        "SGDOneClassSVM": Case(fit(lambda: linear_model.SGDOneClassSVM(random_state=0)), "none"),
        "PCA": Case(fit(lambda: decomposition.PCA(2)), "none"),
        "IncrementalPCA": Case(fit(lambda: decomposition.IncrementalPCA(2)), "none"),
        "TruncatedSVD": Case(fit(lambda: decomposition.TruncatedSVD(2)), "none"),
        "KernelPCA": Case(fit(lambda: decomposition.KernelPCA(2, kernel="rbf")), "none"),
        "StandardScaler": Case(fit(scale), "none"),
        "PolynomialFeatures": Case(fit(preprocessing.PolynomialFeatures), "none"),
        "PowerTransformer": Case(fit(preprocessing.PowerTransformer), "none"),
        "QuantileTransformer": Case(fit(lambda: preprocessing.QuantileTransformer(n_quantiles=5)), "none"),
        "scaler and PCA and SVC": Case(
            lambda x, y: make_pipeline(scale(), decomposition.PCA(3), svm.SVC(probability=False)).fit(x, y)
        ),
        "select and forest": Case(
            lambda x, y: make_pipeline(feature_selection.SelectKBest(k=3), ensemble.RandomForestClassifier(**few)).fit(
                x, y
            )
        ),
    }


def _voters() -> list[tuple[str, Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    return [("line", LogisticRegression()), ("tree", DecisionTreeClassifier(max_depth=3))]


def boosted() -> dict[str, Case]:
    """Return the estimators of XGBoost and LightGBM, alone and as steps."""
    import lightgbm
    import xgboost
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    few: dict[str, Any] = {"n_estimators": 7, "max_depth": 3, "n_jobs": 1}
    light: dict[str, Any] = {**few, "verbose": -1, "min_child_samples": 5}

    def behind(model: Any) -> Build:
        return lambda x, y: make_pipeline(StandardScaler(), model()).fit(x, y)

    return {
        "XGBClassifier": Case(fit(lambda: xgboost.XGBClassifier(**few))),
        "XGBClassifier two": Case(fit(lambda: xgboost.XGBClassifier(**few)), "two"),
        "XGBRegressor": Case(fit(lambda: xgboost.XGBRegressor(**few)), "value"),
        "XGBRegressor poisson": Case(fit(lambda: xgboost.XGBRegressor(objective="count:poisson", **few)), "counts"),
        "XGBRegressor several": Case(fit(lambda: xgboost.XGBRegressor(**few)), "several"),
        "XGBRFClassifier": Case(fit(lambda: xgboost.XGBRFClassifier(**few))),
        "XGBClassifier dart": Case(fit(lambda: xgboost.XGBClassifier(booster="dart", **few)), "two"),
        "XGBClassifier behind a scaler": Case(behind(lambda: xgboost.XGBClassifier(**few))),
        "XGBRegressor behind a scaler": Case(behind(lambda: xgboost.XGBRegressor(**few)), "value"),
        "LGBMClassifier": Case(fit(lambda: lightgbm.LGBMClassifier(**light))),
        "LGBMClassifier two": Case(fit(lambda: lightgbm.LGBMClassifier(**light)), "two"),
        "LGBMClassifier words": Case(fit(lambda: lightgbm.LGBMClassifier(**light)), "words"),
        "LGBMRegressor": Case(fit(lambda: lightgbm.LGBMRegressor(**light)), "value"),
        "LGBMRegressor poisson": Case(fit(lambda: lightgbm.LGBMRegressor(objective="poisson", **light)), "counts"),
        "LGBMRegressor tweedie": Case(fit(lambda: lightgbm.LGBMRegressor(objective="tweedie", **light)), "positive"),
        "LGBMClassifier behind a scaler": Case(behind(lambda: lightgbm.LGBMClassifier(**light))),
        "LGBMRegressor behind a scaler": Case(behind(lambda: lightgbm.LGBMRegressor(**light)), "value"),
    }


def tabular() -> dict[str, Case]:
    """Return pipelines over texts and over named columns of texts and numbers."""
    import lightgbm
    import pandas
    import xgboost
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    city = np.array(["Rome", "Oslo", "Bern", "São Paulo"])[rng.integers(0, 4, ROWS)].astype(object)
    color = np.array(["red", "green", "blue"])[rng.integers(0, 3, ROWS)].astype(object)
    age, pay = rng.integers(18, 70, ROWS), rng.normal(3000, 500, ROWS).astype(np.float32)
    words = ["good", "bad", "fine", "poor", "the", "a", "very", "ship", "lamp", "bread", "I", "we", "x2"]
    texts = np.array([" ".join(rng.choice(words, 8)) + "!" for _ in range(ROWS)], object)
    columns: dict[str, Array] = {"age": age, "pay": pay, "city": city, "color": color}

    def frame() -> Any:
        return pandas.DataFrame({name: list(values) for name, values in columns.items()})

    def prepared(last: Any, encoder: Any = None) -> Build:
        def build(_: Any, y: Any) -> Any:
            prepare = make_column_transformer(
                (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "pay"]),
                (encoder or OneHotEncoder(handle_unknown="ignore"), ["city", "color"]),
            )
            return make_pipeline(prepare, last).fit(frame(), y)

        return build

    def with_text(_: Any, y: Any) -> Any:
        prepare = make_column_transformer((TfidfVectorizer(), "note"), (StandardScaler(), ["pay"]))
        table = pandas.DataFrame({"note": list(texts), "pay": pay})
        return make_pipeline(prepare, LogisticRegression()).fit(table, y)

    def named(values: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        return lambda: values

    two_axes = {name: values.reshape(-1, 1) for name, values in columns.items()}
    small: dict[str, Any] = {"n_estimators": 7, "random_state": 0}
    return {
        "columns logistic": Case(prepared(LogisticRegression()), "classes", named(columns)),
        "columns [n, 1]": Case(prepared(LogisticRegression()), "classes", named(two_axes)),
        "columns words": Case(prepared(LogisticRegression()), "words", named(columns)),
        "columns forest": Case(prepared(RandomForestClassifier(**small)), "two", named(columns)),
        "columns ordinal hist": Case(
            prepared(HistGradientBoostingClassifier(max_iter=5), OrdinalEncoder()), "two", named(columns)
        ),
        "columns xgboost": Case(prepared(xgboost.XGBClassifier(n_estimators=5)), "two", named(columns)),
        "columns lightgbm": Case(prepared(lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)), "two", named(columns)),
        "column of text": Case(with_text, "two", named({"note": texts, "pay": pay})),
        "tf-idf logistic": Case(
            lambda _, y: make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(list(texts), y),
            "two",
            named({"text": texts}),
        ),
        "tf-idf bigrams LinearSVC": Case(
            lambda _, y: make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC()).fit(list(texts), y),
            "two",
            named({"text": texts.reshape(-1, 1)}),
        ),
        "counts MultinomialNB": Case(
            lambda _, y: make_pipeline(CountVectorizer(), MultinomialNB()).fit(list(texts), y),
            "classes",
            named({"text": texts}),
        ),
        "matrix by named columns": Case(
            lambda x, y: make_pipeline(
                make_column_transformer((StandardScaler(), ["a", "b"]), remainder="passthrough"), LogisticRegression()
            ).fit(pandas.DataFrame(x, columns=list("abcde")), y),
            "classes",
        ),
    }
