/* vulkan.c - backend vulkan: compute shaders on any device of Vulkan 1.2. */
#include "vulkan.h"

static const qat_option options[] = {
	QAT_STRING(qat_vk_options, device, NULL, "part of the device's name; index counts the "
		   "devices that have it"),
	QAT_BOOL(qat_vk_options, staging, 0, "copy through staging memory even where host and "
		 "device share theirs"),
	QAT_BOOL(qat_vk_options, validate, 0, "run under the Khronos validation layer, whose "
		 "errors stop the run"),
	QAT_END
};

static const qat_backend vtable = {
	.size = sizeof vtable, .count = qat_vk_count, .open = qat_vk_open, .close = qat_vk_close,
	.caps = qat_vk_caps, .alloc = qat_vk_alloc, .free = qat_vk_free, .write = qat_vk_write,
	.read = qat_vk_read, .map = qat_vk_map, .supports = qat_vk_supports,
	.claim = qat_vk_claim, .compile = qat_vk_compile, .run = qat_vk_run,
	.run_one = qat_vk_run_one, .run_range = qat_vk_run_range, .release = qat_vk_release,
	.sync = qat_vk_sync,
};

static const qat_interface vulkan = {
	.size = sizeof vulkan, .kind = QAT_KIND_BACKEND, .name = "vulkan",
	.summary = "graphics cards and other devices of Vulkan 1.2: compute shaders",
	.options = options, .options_size = sizeof(qat_vk_options), .vtable = &vtable,
};

static const qat_interface *const all[] = { &vulkan };
QAT_PLUGIN("vulkan", all);
