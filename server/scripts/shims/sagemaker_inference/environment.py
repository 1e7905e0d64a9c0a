"""The toolkit's folders."""

base_dir = "/opt/ml"
model_dir = "/opt/ml/model"
code_dir = "/opt/ml/model/code"
