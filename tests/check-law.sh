#!/bin/sh
# The core names no scheme, device, model family or file format, not even in a comment:
# whoever adds one must never need to look there.
cd "${top_srcdir:-.}" || exit 99

names='mxfp[468]?|mxint8|nvfp4|ternary|int4|gptq|awq|smoothquant|lora|qlora'
names="$names|gguf|safetensors|onnx|pytorch|compressed.tensors|peft|tensorboard"
names="$names|llama[0-9]*|gpt[-_ ]?2|smollm[0-9]*|qwen[0-9]*|gemma[0-9]*|bert|roberta|t5"
names="$names|cuda|vulkan|onednn|dnnl|cublas|nccl|spir-?v|ptx|nvidia"
# int8 and its like as schemes; int8_t is C.
widths='u?int[2-8]([^0-9_]|_[^t]|$)'

found=$(grep -nEi "(^|[^[:alnum:]])($names)([^[:alnum:]]|$)|(^|[^[:alnum:]])$widths" \
	core/*.[ch] core/include/qatrun/*.h)
if [ -n "$found" ]; then
	echo "$found"
	echo "core names a scheme, device, model family or file format (above)"
	exit 1
fi
echo "core names no scheme, device, model family or file format"
