/* instance.c - an instance of Vulkan 1.2, and the devices that it finds. */
#include "vulkan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const layers[] = { "VK_LAYER_KHRONOS_validation" };
static const char *const extensions[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME };

static VKAPI_ATTR VkBool32 VKAPI_CALL
complain(VkDebugUtilsMessageSeverityFlagBitsEXT severity, VkDebugUtilsMessageTypeFlagsEXT type,
	 const VkDebugUtilsMessengerCallbackDataEXT *data, void *context)
{
	vk_instance *i = context;

	(void)severity;
	(void)type;
	if (!i->complaints++)
		snprintf(i->complaint, sizeof i->complaint, "%s", data->pMessage);
	return VK_FALSE;
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(vk_instance *i)
{
	return (VkDebugUtilsMessengerCreateInfoEXT){
		.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
		.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
		.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
		.pfnUserCallback = complain, .pUserData = i
	};
}

static int create(vk_instance *i, int validate)
{
	static const VkValidationFeatureEnableEXT sync =
		VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
	const VkDebugUtilsMessengerCreateInfoEXT messages = messenger_info(i);
	const VkValidationFeaturesEXT features = {
		.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT, .pNext = &messages,
		.enabledValidationFeatureCount = 1, .pEnabledValidationFeatures = &sync
	};
	const VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
					.pApplicationName = "qatrun",
					.apiVersion = VK_API_VERSION_1_2 };
	const VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pNext = validate ? &features : NULL, .pApplicationInfo = &app,
		.enabledLayerCount = validate != 0, .ppEnabledLayerNames = layers,
		.enabledExtensionCount = validate != 0, .ppEnabledExtensionNames = extensions
	};
	const VkResult r = i->f.CreateInstance(&info, NULL, &i->handle);
	int rc;

	if (r == VK_ERROR_LAYER_NOT_PRESENT)
		return qat_fail(QAT_ENOTFOUND, "vulkan: validate: the validation layer is not "
				"installed (Debian: vulkan-validationlayers)");
	if (r) {
		i->handle = NULL;
		return qat_fail(QAT_ENOTFOUND, "vulkan: no device: %s", qat_vk_reason(r));
	}
	rc = qat_vk_load_instance(&i->f, i->handle);
	if (!rc && validate && i->f.CreateDebugUtilsMessengerEXT)
		i->f.CreateDebugUtilsMessengerEXT(i->handle, &messages, NULL, &i->messenger);
	return rc;
}

int qat_vk_instance_new(vk_instance **out, int validate)
{
	vk_instance *i = calloc(1, sizeof *i);
	uint32_t version = 0;
	int rc;

	if (!i)
		return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	rc = qat_vk_load(&i->f);
	if (!rc && (i->f.EnumerateInstanceVersion(&version) || version < VK_API_VERSION_1_2))
		rc = qat_fail(QAT_ENOTSUP, "vulkan: libvulkan.so.1 is of Vulkan %u.%u, and 1.2 is "
			      "needed", VK_VERSION_MAJOR(version), VK_VERSION_MINOR(version));
	if (!rc)
		rc = create(i, validate);
	if (rc)
		qat_vk_instance_free(i);
	else
		*out = i;
	return rc;
}

void qat_vk_instance_free(vk_instance *i)
{
	if (!i)
		return;
	if (i->messenger && i->f.DestroyDebugUtilsMessengerEXT)
		i->f.DestroyDebugUtilsMessengerEXT(i->handle, i->messenger, NULL);
	if (i->handle && i->f.DestroyInstance)
		i->f.DestroyInstance(i->handle, NULL);
	qat_vk_unload(&i->f);
	free(i);
}

int qat_vk_devices(vk_instance *i, VkPhysicalDevice **out, uint32_t *count)
{
	VkPhysicalDevice *all;
	uint32_t n = 0;

	*count = 0;
	if (i->f.EnumeratePhysicalDevices(i->handle, &n, NULL))
		n = 0;
	all = calloc((size_t)n + 1, sizeof(VkPhysicalDevice));
	if (!all)
		return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	if (n && i->f.EnumeratePhysicalDevices(i->handle, &n, all) < 0)
		n = 0;
	for (uint32_t k = 0; k < n; k++) {
		VkPhysicalDeviceProperties2 p = {
			.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };

		i->f.GetPhysicalDeviceProperties2(all[k], &p);
		if (p.properties.apiVersion >= VK_API_VERSION_1_2)
			all[(*count)++] = all[k];
	}
	*out = all;
	return QAT_OK;
}
