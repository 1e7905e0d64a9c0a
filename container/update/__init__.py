"""The update loop: from a newly trained model to the version that answers, step by step, with a record."""
