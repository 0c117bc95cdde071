"""Does a canary answer as its baseline does? Wrong templates, tokenizers and weights give fluent garbage at normal speed."""
