"""What runs under another interpreter: the standard library, numpy and one framework, none of our dependencies."""
