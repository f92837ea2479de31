/* device.c - choosing a device, what it can do, and opening it. */
#include "vulkan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Options that tests set for every pipeline. */
static int forced(const char *name)
{
	const char *v = getenv(name);

	return v && *v && strcmp(v, "0") != 0;
}

int qat_vk_fail(vk_device *d, VkResult r, const char *what)
{
	const int code = r == VK_ERROR_OUT_OF_HOST_MEMORY || r == VK_ERROR_OUT_OF_DEVICE_MEMORY
		       ? QAT_ENOMEM : QAT_EIO;

	d->lost |= r == VK_ERROR_DEVICE_LOST;
	return qat_fail(code, "vulkan: %s: %s: %s", d->properties.deviceName, what,
			qat_vk_reason(r));
}

static int check_complaints(const vk_device *d)
{
	if (!d->instance->complaints)
		return QAT_OK;
	return qat_fail(QAT_EABI, "vulkan: the validation layer found %d errors, first: %s",
			d->instance->complaints, d->instance->complaint);
}

/*
 * Also of a lost device: what was submitted before may still run and write, so the wait comes
 * before any memory is freed. It ends in finite time whatever happened to the device (the
 * Vulkan specification, "Lost Device").
 */
static void settle(vk_device *d)
{
	if (d->busy)
		d->f->DeviceWaitIdle(d->handle);
	d->busy = 0;
}

int qat_vk_wait(vk_device *d)
{
	VkResult r = VK_ERROR_DEVICE_LOST;

	if (!d->lost && !d->busy)
		return QAT_OK;
	if (!d->lost)
		r = d->f->QueueWaitIdle(d->queue);
	if (r) {
		settle(d);
		return qat_vk_fail(d, r, "wait");
	}
	d->busy = 0;
	return check_complaints(d);
}

int qat_vk_sync(void *device)
{
	return qat_vk_wait(device);
}

/* ---- choosing ---- */

static void name_of(const vk_instance *i, VkPhysicalDevice p, char *out, size_t room)
{
	VkPhysicalDeviceProperties2 q = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };

	i->f.GetPhysicalDeviceProperties2(p, &q);
	snprintf(out, room, "%s", q.properties.deviceName);
}

static int no_device(const vk_instance *i, const VkPhysicalDevice *all, uint32_t n,
		     const char *wanted, int64_t index)
{
	char names[512] = "", what[128];
	size_t used = 0;

	if (!n)
		return qat_fail(QAT_ENOTFOUND, "vulkan: no device: no driver here has one of "
				"Vulkan 1.2");
	for (uint32_t k = 0; k < n && used < sizeof names; k++) {
		char name[256];

		name_of(i, all[k], name, sizeof name);
		used += (size_t)snprintf(names + used, sizeof names - used, "%sindex %u, %s",
					 k ? "; " : "", k, name);
	}
	snprintf(what, sizeof what, wanted ? "named %s" : "%s%lld", wanted ? wanted : "",
		 (long long)index);
	return qat_fail(QAT_ENOTFOUND, "vulkan: no device %s: there is %s", what, names);
}

static int contains(const char *text, const char *part)
{
	const size_t n = strlen(part);

	for (; *text; text++)
		if (!strncasecmp(text, part, n))
			return 1;
	return 0;
}

/* By part of a name, the index-th of those; else by index. */
static int choose(vk_device *d, const char *wanted, int64_t index)
{
	VkPhysicalDevice *all = NULL;
	uint32_t n;
	int64_t seen = 0;
	int rc = qat_vk_devices(d->instance, &all, &n);

	for (uint32_t k = 0; k < n && !rc && !d->physical; k++) {
		char name[256];

		name_of(d->instance, all[k], name, sizeof name);
		if ((!wanted || contains(name, wanted)) && seen++ == index)
			d->physical = all[k];
	}
	if (!rc && !d->physical)
		rc = no_device(d->instance, all, n, wanted, index);
	free(all);
	return rc;
}

/* ---- what it can do ---- */

static int find_queue(vk_device *d)
{
	VkQueueFamilyProperties family[32];
	uint32_t n = 32;

	d->f->GetPhysicalDeviceQueueFamilyProperties(d->physical, &n, family);
	for (uint32_t k = 0; k < n; k++)
		if (family[k].queueFlags & VK_QUEUE_COMPUTE_BIT) {
			d->family = k;
			return QAT_OK;
		}
	return qat_fail(QAT_ENOTSUP, "vulkan: %s has no queue for compute shaders",
			d->properties.deviceName);
}

static int lacks(const vk_device *d, const char *what)
{
	return qat_fail(QAT_ENOTSUP, "vulkan: %s lacks %s, which every kernel needs: name another "
			"device or backend", d->properties.deviceName, what);
}

static int measure(vk_device *d)
{
	VkPhysicalDeviceMaintenance3Properties most = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES };
	VkPhysicalDeviceProperties2 p = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &d->driver };
	const VkPhysicalDeviceLimits *limits = &d->properties.limits;

	d->driver.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES;
	d->driver.pNext = &most;
	d->f->GetPhysicalDeviceProperties2(d->physical, &p);
	d->properties = p.properties;
	d->f->GetPhysicalDeviceMemoryProperties(d->physical, &d->memory);
	d->largest_allocation = most.maxMemoryAllocationSize < (uint64_t)INT64_MAX
			      ? (int64_t)most.maxMemoryAllocationSize : INT64_MAX;
	d->largest_range = limits->maxStorageBufferRange;
	d->alignment = limits->minStorageBufferOffsetAlignment > 64
		     ? (int64_t)limits->minStorageBufferOffsetAlignment : 64;
	if (limits->maxPerStageDescriptorStorageBuffers < SLOTS)
		return lacks(d, "16 storage buffers in a shader");
	if (limits->maxPushConstantsSize < PUSH * 4)
		return lacks(d, "128 bytes of push constants");
	if (limits->maxComputeWorkGroupInvocations < 256)
		return lacks(d, "work groups of 256");
	return find_queue(d);
}

/* Of the extension for integer dot products; 0 where there is none. */
static int has_extension(const vk_device *d, const char *name)
{
	VkExtensionProperties *all = NULL;
	uint32_t n = 0;
	int found = 0;

	if (d->f->EnumerateDeviceExtensionProperties(d->physical, NULL, &n, NULL) || !n)
		return 0;
	all = calloc(n, sizeof *all);
	if (all && d->f->EnumerateDeviceExtensionProperties(d->physical, NULL, &n, all) >= 0)
		for (uint32_t i = 0; i < n; i++)
			found |= !strcmp(all[i].extensionName, name);
	free(all);
	return found;
}

static int create(vk_device *d)
{
	static const char *const extensions[] = {
		VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME };
	const float priority = 1.0f;
	VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR
	};
	VkPhysicalDeviceVulkan12Features f12 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		.pNext = has_extension(d, *extensions) ? &dot : NULL };
	VkPhysicalDeviceVulkan11Features f11 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f12 };
	VkPhysicalDeviceFeatures2 has = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f11 };
	const VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = d->family,
		.queueCount = 1, .pQueuePriorities = &priority };
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &has,
		.queueCreateInfoCount = 1, .pQueueCreateInfos = &queue,
		.ppEnabledExtensionNames = extensions };
	VkResult r;
	int rc;

	d->f->GetPhysicalDeviceFeatures2(d->physical, &has);
	if (!f12.storageBuffer8BitAccess || !f11.storageBuffer16BitAccess)
		return lacks(d, "8 and 16 bit access to storage buffers");
	d->float64 = has.features.shaderFloat64 != 0;
	has.features = (VkPhysicalDeviceFeatures){ .shaderFloat64 = (VkBool32)d->float64 };
	f11 = (VkPhysicalDeviceVulkan11Features){ .sType = f11.sType, .pNext = &f12,
						  .storageBuffer16BitAccess = VK_TRUE };
	d->integer_dot = dot.shaderIntegerDotProduct != 0;
	info.enabledExtensionCount = (uint32_t)d->integer_dot;
	f12 = (VkPhysicalDeviceVulkan12Features){ .sType = f12.sType,
						  .pNext = d->integer_dot ? &dot : NULL,
						  .storageBuffer8BitAccess = VK_TRUE };
	r = d->f->CreateDevice(d->physical, &info, NULL, &d->handle);
	if (r) {
		d->handle = NULL;
		return qat_vk_fail(d, r, "open");
	}
	rc = qat_vk_load_device(&d->instance->f, d->handle);
	if (!rc)
		d->f->GetDeviceQueue(d->handle, d->family, 0, &d->queue);
	return rc;
}

/* ---- opening ---- */

int qat_vk_open(void **device, const void *self, int64_t index, int64_t threads)
{
	static const qat_vk_options none;
	const qat_vk_options *o = self ? self : &none;
	vk_device *d = calloc(1, sizeof *d);
	int rc;

	(void)threads;
	if (!d)
		return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	rc = qat_vk_instance_new(&d->instance, o->validate || forced("QATRUN_VULKAN_VALIDATE"));
	if (!rc) {
		d->f = &d->instance->f;
		rc = choose(d, o->device, index);
	}
	if (!rc)
		rc = measure(d);
	d->unified = !o->staging && !forced("QATRUN_VULKAN_STAGING") &&
		     (d->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU ||
		      d->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU);
	if (!rc)
		rc = create(d);
	if (!rc)
		rc = qat_vk_memory_open(d);
	if (!rc)
		rc = qat_vk_pipelines_open(d);
	if (rc)
		qat_vk_close(d);
	else
		*device = d;
	return rc;
}

void qat_vk_close(void *device)
{
	vk_device *d = device;

	if (!d)
		return;
	if (d->handle && d->f->DestroyDevice) {
		if (d->f->DeviceWaitIdle)
			d->f->DeviceWaitIdle(d->handle);
		qat_vk_pipelines_close(d);
		qat_vk_memory_close(d);
		d->f->DestroyDevice(d->handle, NULL);
	}
	qat_vk_instance_free(d->instance);
	free(d);
}

int64_t qat_vk_count(void)
{
	vk_instance *i = NULL;
	VkPhysicalDevice *all = NULL;
	uint32_t n = 0;

	if (!qat_vk_instance_new(&i, 0))
		qat_vk_devices(i, &all, &n);
	free(all);
	qat_vk_instance_free(i);
	return n;
}

/* Bits depend on the driver, whose compiler decides how exponentials are made. */
int qat_vk_caps(void *device, qat_caps *out)
{
	const vk_device *d = device;
	qat_caps c = { .size = sizeof c, .threads = 1, .alignment = d->alignment,
		       .unified = d->unified };

	for (uint32_t i = 0; i < d->memory.memoryHeapCount; i++)
		if (d->memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
			c.memory += (int64_t)d->memory.memoryHeaps[i].size;
	snprintf(c.name, sizeof c.name, "%.60s, %.30s", d->properties.deviceName,
		 d->driver.driverInfo);
	snprintf(c.kernels, sizeof c.kernels, "shaders on %.60s (%x:%x)", d->properties.deviceName,
		 d->properties.vendorID, d->properties.deviceID);
	snprintf(c.isa, sizeof c.isa, "vulkan %.15s %x", d->driver.driverName,
		 d->properties.driverVersion);
	if (out->size < sizeof c)
		c.size = out->size;
	memcpy(out, &c, c.size);
	return QAT_OK;
}
