/* loader.c - libvulkan.so.1 and its functions, found at run time: the plugin itself links
 * nothing of Vulkan, and is there on machines without.
 */
#include "vulkan.h"

#include <dlfcn.h>
#include <string.h>

int qat_vk_load(vk_functions *f)
{
	memset(f, 0, sizeof *f);
	f->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!f->library)
		return qat_fail(QAT_ENOTFOUND, "vulkan: no libvulkan.so.1 on this machine (Debian: "
				"libvulkan1 and a driver, mesa-vulkan-drivers)");
	*(void **)&f->GetInstanceProcAddr = dlsym(f->library, "vkGetInstanceProcAddr");
	if (!f->GetInstanceProcAddr) {
		qat_vk_unload(f);
		return qat_fail(QAT_ENOTFOUND, "vulkan: libvulkan.so.1 has no "
				"vkGetInstanceProcAddr");
	}
#define FIND(name) f->name = (PFN_vk##name)f->GetInstanceProcAddr(NULL, "vk" #name);
	VK_GLOBAL_FUNCTIONS(FIND)
#undef FIND
	if (f->EnumerateInstanceVersion && f->CreateInstance)
		return QAT_OK;
	qat_vk_unload(f);
	return qat_fail(QAT_ENOTSUP, "vulkan: libvulkan.so.1 is older than Vulkan 1.1");
}

static int missing(const char *name)
{
	return qat_fail(QAT_ENOTSUP, "vulkan: the driver has no vk%s", name);
}

int qat_vk_load_instance(vk_functions *f, VkInstance instance)
{
#define FIND(name) \
	f->name = (PFN_vk##name)f->GetInstanceProcAddr(instance, "vk" #name); \
	if (!f->name) \
		return missing(#name);
	VK_INSTANCE_FUNCTIONS(FIND)
#undef FIND
	f->CreateDebugUtilsMessengerEXT = (PFN_vkCreateDebugUtilsMessengerEXT)
		f->GetInstanceProcAddr(instance, "vkCreateDebugUtilsMessengerEXT");
	f->DestroyDebugUtilsMessengerEXT = (PFN_vkDestroyDebugUtilsMessengerEXT)
		f->GetInstanceProcAddr(instance, "vkDestroyDebugUtilsMessengerEXT");
	return QAT_OK;
}

int qat_vk_load_device(vk_functions *f, VkDevice device)
{
#define FIND(name) \
	f->name = (PFN_vk##name)f->GetDeviceProcAddr(device, "vk" #name); \
	if (!f->name) \
		return missing(#name);
	VK_DEVICE_FUNCTIONS(FIND)
#undef FIND
	return QAT_OK;
}

void qat_vk_unload(vk_functions *f)
{
	if (f->library)
		dlclose(f->library);
	f->library = NULL;
}

const char *qat_vk_reason(VkResult r)
{
	static const struct { VkResult r; const char *text; } reasons[] = {
		{ VK_ERROR_OUT_OF_HOST_MEMORY, "out of host memory" },
		{ VK_ERROR_OUT_OF_DEVICE_MEMORY, "out of device memory" },
		{ VK_ERROR_INITIALIZATION_FAILED, "the driver could not be initialized" },
		{ VK_ERROR_DEVICE_LOST, "the device was lost: it hung, was reset or was removed" },
		{ VK_ERROR_MEMORY_MAP_FAILED, "memory could not be mapped" },
		{ VK_ERROR_LAYER_NOT_PRESENT, "a layer is not installed" },
		{ VK_ERROR_EXTENSION_NOT_PRESENT, "an extension is missing" },
		{ VK_ERROR_FEATURE_NOT_PRESENT, "a feature is missing" },
		{ VK_ERROR_INCOMPATIBLE_DRIVER, "no driver is installed" },
		{ VK_ERROR_TOO_MANY_OBJECTS, "too many objects" },
		{ VK_ERROR_OUT_OF_POOL_MEMORY, "out of pool memory" },
	};

	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (reasons[i].r == r)
			return reasons[i].text;
	return "unknown error";
}
