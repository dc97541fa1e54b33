"""A LLaMA-type decoder that is cut into stages, for pipelines whose microbatches skip and reorder stages.

`config` (no PyTorch needed) holds the sizes, `decoder` the model and its parts, `weight_gradients` the split of a
backward pass into an input and a weight part (zero bubble pipelines), `pretrained` the Hugging Face files. Parameter
names are those of `LlamaForCausalLM`, so that weights move both ways. Import the modules themselves: this package
imports nothing, so that planning works without PyTorch.
"""
