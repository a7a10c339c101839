"""The article: a Spatial Transformer Network that reads captcha letters."""
