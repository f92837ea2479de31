/* fake_vulkan.c - a libvulkan.so.1 that hands everything to the real one, REAL, but for what it
 * is told to spoil; test_run_vulkan_faults.sh builds it and puts it first in the path.
 *   FAKE_FAIL=vkQueueSubmit:5:-4	the 5th call of it, and all later ones, give VkResult -4
 *   FAKE_LACKS=float64,dot		the device has no such feature, limit or queue
 *   FAKE_CALLS=file			appends how often each spoilable call was made
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#define CALLS(X) \
	X(CreateInstance) X(EnumeratePhysicalDevices) X(CreateDevice) X(AllocateMemory) \
	X(CreateBuffer) X(CreateComputePipelines) X(AllocateDescriptorSets) \
	X(BeginCommandBuffer) X(QueueSubmit) X(QueueWaitIdle)

enum call {
#define CALL(name) name,
	CALLS(CALL)
#undef CALL
	N_CALLS
};

static const char *const call_name[] = {
#define CALL(name) "vk" #name,
	CALLS(CALL)
#undef CALL
};

static long count[N_CALLS];
#define CALL(name) static PFN_vk##name real_##name;
CALLS(CALL)
#undef CALL
static PFN_vkGetInstanceProcAddr real_instance;
static PFN_vkGetDeviceProcAddr real_device;
static PFN_vkGetPhysicalDeviceFeatures2 real_features;
static PFN_vkGetPhysicalDeviceProperties2 real_properties;
static PFN_vkGetPhysicalDeviceQueueFamilyProperties real_queues;
static PFN_vkEnumerateDeviceExtensionProperties real_extensions;

/* VK_SUCCESS, or what this call is to fail with. */
static VkResult spoiled(enum call c)
{
	const char *told = getenv("FAKE_FAIL");
	const size_t n = strlen(call_name[c]);
	long from, code;

	count[c]++;
	if (!told || strncmp(told, call_name[c], n) || told[n] != ':' ||
	    sscanf(told + n + 1, "%ld:%ld", &from, &code) != 2 || count[c] < from)
		return VK_SUCCESS;
	return (VkResult)code;
}

static int lacks(const char *what)
{
	const char *told = getenv("FAKE_LACKS"), *at = told ? strstr(told, what) : NULL;

	return at && (at == told || at[-1] == ',') &&
	       (at[strlen(what)] == ',' || !at[strlen(what)]);
}

static void __attribute__((destructor)) tell(void)
{
	const char *path = getenv("FAKE_CALLS");
	FILE *f = path ? fopen(path, "a") : NULL;

	for (int i = 0; f && i < N_CALLS; i++)
		fprintf(f, "%s %ld\n", call_name[i], count[i]);
	if (f)
		fclose(f);
}

/* ---- calls that may fail ---- */

#define SPOILABLE(name, parameters, arguments) \
	static VKAPI_ATTR VkResult VKAPI_CALL fake_##name parameters \
	{ \
		const VkResult r = spoiled(name); \
		return r ? r : real_##name arguments; \
	}

SPOILABLE(CreateInstance, (const VkInstanceCreateInfo *i, const VkAllocationCallbacks *a,
			   VkInstance *out), (i, a, out))
SPOILABLE(EnumeratePhysicalDevices, (VkInstance i, uint32_t *n, VkPhysicalDevice *out),
	  (i, n, out))
SPOILABLE(CreateDevice, (VkPhysicalDevice p, const VkDeviceCreateInfo *i,
			 const VkAllocationCallbacks *a, VkDevice *out), (p, i, a, out))
SPOILABLE(AllocateMemory, (VkDevice d, const VkMemoryAllocateInfo *i,
			   const VkAllocationCallbacks *a, VkDeviceMemory *out), (d, i, a, out))
SPOILABLE(CreateBuffer, (VkDevice d, const VkBufferCreateInfo *i,
			 const VkAllocationCallbacks *a, VkBuffer *out), (d, i, a, out))
SPOILABLE(CreateComputePipelines, (VkDevice d, VkPipelineCache c, uint32_t n,
				   const VkComputePipelineCreateInfo *i,
				   const VkAllocationCallbacks *a, VkPipeline *out),
	  (d, c, n, i, a, out))
SPOILABLE(AllocateDescriptorSets, (VkDevice d, const VkDescriptorSetAllocateInfo *i,
				   VkDescriptorSet *out), (d, i, out))
SPOILABLE(BeginCommandBuffer, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))
SPOILABLE(QueueSubmit, (VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f), (q, n, s, f))
SPOILABLE(QueueWaitIdle, (VkQueue q), (q))

/* ---- what a device may lack ---- */

static VKAPI_ATTR void VKAPI_CALL fake_features(VkPhysicalDevice p, VkPhysicalDeviceFeatures2 *out)
{
	real_features(p, out);
	if (lacks("float64"))
		out->features.shaderFloat64 = VK_FALSE;
	for (VkBaseOutStructure *s = out->pNext; s; s = s->pNext) {
		if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES &&
		    lacks("storage16"))
			((VkPhysicalDeviceVulkan11Features *)s)->storageBuffer16BitAccess = 0;
		if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES &&
		    lacks("storage8"))
			((VkPhysicalDeviceVulkan12Features *)s)->storageBuffer8BitAccess = 0;
	}
}

static VKAPI_ATTR void VKAPI_CALL fake_properties(VkPhysicalDevice p,
						  VkPhysicalDeviceProperties2 *out)
{
	VkPhysicalDeviceLimits *limits = &out->properties.limits;

	real_properties(p, out);
	if (lacks("version"))
		out->properties.apiVersion = VK_API_VERSION_1_1;
	if (lacks("buffers"))
		limits->maxPerStageDescriptorStorageBuffers = 8;
	if (lacks("push"))
		limits->maxPushConstantsSize = 64;
	if (lacks("groups"))
		limits->maxComputeWorkGroupInvocations = 128;
	if (lacks("range"))
		limits->maxStorageBufferRange = 4096;
}

static VKAPI_ATTR void VKAPI_CALL fake_queues(VkPhysicalDevice p, uint32_t *n,
					      VkQueueFamilyProperties *out)
{
	real_queues(p, n, out);
	for (uint32_t i = 0; out && i < *n && lacks("queue"); i++)
		out[i].queueFlags &= ~(VkQueueFlags)VK_QUEUE_COMPUTE_BIT;
}

static VKAPI_ATTR VkResult VKAPI_CALL fake_extensions(VkPhysicalDevice p, const char *layer,
						      uint32_t *n, VkExtensionProperties *out)
{
	if (!lacks("dot"))
		return real_extensions(p, layer, n, out);
	*n = 0;
	return VK_SUCCESS;
}

/* ---- functions by name ---- */

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fake_device(VkDevice d, const char *name);

static PFN_vkVoidFunction replace(const char *name, PFN_vkVoidFunction f)
{
#define CALL(name_) \
	if (!strcmp(name, "vk" #name_)) { \
		real_##name_ = (PFN_vk##name_)f; \
		return (PFN_vkVoidFunction)fake_##name_; \
	}
	CALLS(CALL)
#undef CALL
#define OTHER(name_, real, fake) \
	if (!strcmp(name, #name_)) { \
		real = (PFN_##name_)f; \
		return (PFN_vkVoidFunction)fake; \
	}
	OTHER(vkGetDeviceProcAddr, real_device, fake_device)
	OTHER(vkGetPhysicalDeviceFeatures2, real_features, fake_features)
	OTHER(vkGetPhysicalDeviceProperties2, real_properties, fake_properties)
	OTHER(vkGetPhysicalDeviceQueueFamilyProperties, real_queues, fake_queues)
	OTHER(vkEnumerateDeviceExtensionProperties, real_extensions, fake_extensions)
#undef OTHER
	return f;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fake_device(VkDevice d, const char *name)
{
	const PFN_vkVoidFunction f = real_device(d, name);

	return f ? replace(name, f) : NULL;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance,
							       const char *name)
{
	PFN_vkVoidFunction f;

	if (!real_instance) {
		const char *path = getenv("REAL");
		void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;

		if (!library) {
			fprintf(stderr, "fake_vulkan: no REAL library: %s\n", dlerror());
			exit(99);
		}
		*(void **)&real_instance = dlsym(library, "vkGetInstanceProcAddr");
	}
	if (lacks("function") && !strcmp(name, "vkGetPhysicalDeviceMemoryProperties"))
		return NULL;
	f = real_instance(instance, name);
	return f ? replace(name, f) : NULL;
}
