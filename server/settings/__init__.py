"""Settings: options declared once, the reader of their values, the platform's environment, their documentation."""
