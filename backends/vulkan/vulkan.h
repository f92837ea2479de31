/* vulkan.h - backend vulkan from inside.
 *
 * A node becomes one or more dispatches of compute shaders. All shaders share one layout:
 * SLOTS storage buffers, of which inputs are 0..9 (tables of schemes 8 and 9), outputs
 * 10..13, workspace 14 and the run's state 15, and PUSH words of push constants. Types and
 * variants are specialization constants, so that one shader serves every mixture of types.
 * Nothing here has run on a graphics card yet: it is tested on a driver in software.
 */
#ifndef QAT_VULKAN_H
#define QAT_VULKAN_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include <qatrun/backend.h>

enum {
	SLOTS = 16, SLOT_TABLES = 8, SLOT_OUT = 10, SLOT_WORK = 14, SLOT_STATE = 15,
	SPECS = 16, SPEC_OUT = 10, SPEC_KIND = 14, SPEC_MORE = 15,
	PUSH = 32
};

/* ---- loader.c: libvulkan.so.1, opened at run time ---- */

#define VK_GLOBAL_FUNCTIONS(X) \
	X(EnumerateInstanceVersion) X(EnumerateInstanceLayerProperties) X(CreateInstance)

#define VK_INSTANCE_FUNCTIONS(X) \
	X(DestroyInstance) X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties2) \
	X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties) \
	X(GetPhysicalDeviceQueueFamilyProperties) X(EnumerateDeviceExtensionProperties) \
	X(CreateDevice) X(GetDeviceProcAddr)

#define VK_DEVICE_FUNCTIONS(X) \
	X(DestroyDevice) X(DeviceWaitIdle) X(GetDeviceQueue) X(QueueSubmit) X(QueueWaitIdle) \
	X(AllocateMemory) X(FreeMemory) X(MapMemory) \
	X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements) X(BindBufferMemory) \
	X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers) \
	X(FreeCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer) X(ResetCommandBuffer) \
	X(CmdPipelineBarrier) X(CmdBindPipeline) X(CmdBindDescriptorSets) X(CmdPushConstants) \
	X(CmdDispatch) X(CmdCopyBuffer) X(CmdFillBuffer) \
	X(CreateDescriptorSetLayout) X(DestroyDescriptorSetLayout) X(CreateDescriptorPool) \
	X(DestroyDescriptorPool) X(AllocateDescriptorSets) X(UpdateDescriptorSets) \
	X(CreatePipelineLayout) X(DestroyPipelineLayout) X(CreateShaderModule) \
	X(DestroyShaderModule) X(CreateComputePipelines) X(DestroyPipeline) \
	X(CreatePipelineCache) X(DestroyPipelineCache) X(GetPipelineCacheData)

#define VK_POINTER_(name_) PFN_vk##name_ name_;
typedef struct vk_functions {
	void *library;
	PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
	VK_GLOBAL_FUNCTIONS(VK_POINTER_)
	VK_INSTANCE_FUNCTIONS(VK_POINTER_)
	VK_DEVICE_FUNCTIONS(VK_POINTER_)
	PFN_vkCreateDebugUtilsMessengerEXT CreateDebugUtilsMessengerEXT;
	PFN_vkDestroyDebugUtilsMessengerEXT DestroyDebugUtilsMessengerEXT;
} vk_functions;

/* The library and its global functions; QAT_ENOTFOUND where it is not installed. */
int qat_vk_load(vk_functions *f);
int qat_vk_load_instance(vk_functions *f, VkInstance instance);
int qat_vk_load_device(vk_functions *f, VkDevice device);
void qat_vk_unload(vk_functions *f);
/* "VK_ERROR_..." in words. */
const char *qat_vk_reason(VkResult r);

/* ---- instance.c ---- */

typedef struct qat_vk_options {
	const char *device;		/* part of the device's name; NULL: by index */
	int64_t staging;		/* copy through staging memory even where it is shared */
	int64_t validate;		/* with the Khronos validation layer; errors fail runs */
} qat_vk_options;

typedef struct vk_instance {
	vk_functions f;
	VkInstance handle;
	VkDebugUtilsMessengerEXT messenger;
	int complaints;			/* errors of the validation layer */
	char complaint[256];		/* the first of them */
} vk_instance;

int qat_vk_instance_new(vk_instance **out, int validate);
void qat_vk_instance_free(vk_instance *i);
/* Devices of Vulkan 1.2 at least, in the driver's order; calloc'd. */
int qat_vk_devices(vk_instance *i, VkPhysicalDevice **out, uint32_t *count);

/* ---- device.c ---- */

typedef struct vk_block vk_block;	/* of device memory; memory.c */
typedef struct vk_pipeline vk_pipeline;	/* pipeline.c */

typedef struct vk_device {
	vk_instance *instance;
	const vk_functions *f;		/* of the instance */
	VkPhysicalDevice physical;
	VkDevice handle;
	VkQueue queue;
	uint32_t family;
	VkPhysicalDeviceProperties properties;
	VkPhysicalDeviceDriverProperties driver;
	VkPhysicalDeviceMemoryProperties memory;
	int64_t largest_allocation, largest_range, alignment;
	int float64, integer_dot, unified, lost;
	/* memory.c */
	vk_block *blocks;
	qat_memory *staging, *dummy;
	VkCommandPool pool;
	VkCommandBuffer copies;
	int busy;			/* something was submitted and not waited for */
	/* pipeline.c */
	VkDescriptorSetLayout set_layout;
	VkPipelineLayout layout;
	VkPipelineCache cache;
	vk_pipeline *pipelines;
	int64_t n_cached;		/* pipelines made since the cache was read */
} vk_device;

int qat_vk_open(void **device, const void *self, int64_t index, int64_t threads);
void qat_vk_close(void *device);
int qat_vk_caps(void *device, qat_caps *out);
int64_t qat_vk_count(void);
/* A message for what went wrong, its code returned. */
int qat_vk_fail(vk_device *d, VkResult r, const char *what);
/* Wait for all that was submitted; reports what the validation layer said. */
int qat_vk_wait(vk_device *d);
int qat_vk_sync(void *device);

/* ---- memory.c ---- */

struct qat_memory {
	vk_block *block;
	int64_t offset, bytes;		/* in the block */
};

VkBuffer qat_vk_buffer(const qat_memory *m);
int qat_vk_memory_open(vk_device *d);
void qat_vk_memory_close(vk_device *d);
int qat_vk_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use);
void qat_vk_free(void *device, qat_memory *m);
int qat_vk_write(void *device, qat_memory *m, int64_t offset, const void *data, int64_t bytes);
int qat_vk_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes);
void *qat_vk_map(void *device, qat_memory *m);

/* ---- pipeline.c, shaders.c ---- */

typedef struct vk_shader {
	const char *name;
	const uint32_t *code;
	size_t bytes;
} vk_shader;

enum {
	SHADER_ADAMW, SHADER_APPEND, SHADER_ATTENTION, SHADER_ATTENTION_DKV,
	SHADER_ATTENTION_DQ,
	SHADER_COLUMNS, SHADER_CROSS_ENTROPY, SHADER_CROSS_ENTROPY_GRAD, SHADER_DEQUANTIZE,
	SHADER_EMBEDDING, SHADER_EMBEDDING_GRAD, SHADER_FLAT, SHADER_MASK, SHADER_MATMUL,
	SHADER_NORM, SHADER_NORM_GRAD, SHADER_NORM_GRAD_ROWS, SHADER_OBSERVE,
	SHADER_OBSERVE_COUNTS, SHADER_QMATMUL, SHADER_QMATMUL_DOT, SHADER_QMATMUL_TILE,
	SHADER_QUANTIZE, SHADER_QUANTIZE_MSE, SHADER_QUANTIZE_PERCENTILE, SHADER_QUANTIZE_SCALES,
	SHADER_QUANTIZE_SECOND, SHADER_REDUCE_ROWS, SHADER_ROPE, SHADER_SUM_SQUARES, SHADERS
};
extern const vk_shader qat_vk_shaders[SHADERS];

int qat_vk_pipelines_open(vk_device *d);
void qat_vk_pipelines_close(vk_device *d);
/* The pipeline of a shader with its specialization constants; made when first asked for. */
int qat_vk_pipeline(vk_device *d, VkPipeline *out, int shader, const uint32_t spec[SPECS]);

/* ---- ops.c: nodes as dispatches ---- */

typedef struct vk_slot {
	const qat_memory *memory;	/* NULL: absent */
	int64_t offset, bytes;
} vk_slot;

typedef struct vk_dispatch {
	int shader;
	int reports;			/* 1: it may find values that are not finite */
	int64_t positions;		/* it takes runs at positions below this; 0: at all */
	uint32_t spec[SPECS], push[PUSH], groups[3];
	vk_slot slot[SLOTS];
	const qat_scheme *table[2];	/* whose tables go to SLOT_TABLES and behind; or NULL */
} vk_dispatch;

/* A node to be planned. Without bindings it is only measured: how much workspace. */
typedef struct vk_site {
	vk_device *device;
	const qat_graph *g;
	const qat_node *n;
	const qat_binding *bindings, *work;
	int64_t workspace;		/* out: bytes */
	vk_dispatch *out;		/* [n_out], grows; NULL while measured */
	int64_t n_out, room;
	int rc;
} vk_site;

typedef void vk_plan(vk_site *s);

/* Types of inputs and outputs, a letter each: see op_types.h. */
typedef struct vk_op {
	const char *in, *out;
	vk_plan *plan;
	/* Why this node is beyond the plan, NULL if it is not. May be NULL. */
	const char *(*refuse)(const vk_device *d, const qat_graph *g, const qat_node *n);
} vk_op;

const vk_op *qat_vk_op(uint32_t op);
int qat_vk_supports(void *device, const qat_graph *g, const qat_node *n, char *why,
		    int64_t room);
int qat_vk_claim(void *device, const qat_graph *g, int64_t first, const uint8_t *keep,
		 const uint8_t *taken, qat_claim *out);

/* Helpers of plans (ops.c). Values are named by the index of the input or output. */
const qat_value *qat_vk_in(const vk_site *s, int64_t i);	/* NULL: absent */
const qat_value *qat_vk_out(const vk_site *s, int64_t i);
/* A dispatch with all values of the node in their slots and types in spec. NULL: s->rc. */
vk_dispatch *qat_vk_emit(vk_site *s, int shader);
/* Groups for n elements, `per` each, at most what a device takes: shaders loop. */
void qat_vk_groups(vk_dispatch *d, int64_t n, int64_t per);
/* One group for each of n rows, at most what a device takes: shaders loop. */
void qat_vk_rows(vk_dispatch *d, int64_t n);
/* One group for each 32 x 32 elements of a matrix, at most what a device takes. */
void qat_vk_tiles(vk_dispatch *d, int64_t rows, int64_t cols);
/* A slot given by hand. */
void qat_vk_bind(vk_site *s, vk_dispatch *d, int slot, int64_t value, uint32_t dtype);
uint32_t qat_vk_bits(double x);			/* of the float */
int64_t qat_vk_cols(const qat_value *v);	/* elements of a row */

vk_plan qat_vk_plan_flat, qat_vk_plan_adamw, qat_vk_plan_sum_squares;
vk_plan qat_vk_plan_embedding, qat_vk_plan_embedding_grad, qat_vk_plan_rope;
vk_plan qat_vk_plan_split, qat_vk_plan_concat, qat_vk_plan_reduce_rows;
vk_plan qat_vk_plan_norm, qat_vk_plan_norm_grad;
vk_plan qat_vk_plan_quantize, qat_vk_plan_dequantize, qat_vk_plan_mask, qat_vk_plan_observe;
vk_plan qat_vk_plan_qmatmul, qat_vk_plan_matmul;
vk_plan qat_vk_plan_attention, qat_vk_plan_attention_grad;
vk_plan qat_vk_plan_cross_entropy, qat_vk_plan_cross_entropy_grad;
vk_plan qat_vk_plan_linear_cross_entropy, qat_vk_plan_linear_cross_entropy_grad;

const char *qat_vk_refuse_double(const vk_device *d, const qat_graph *g, const qat_node *n);
const char *qat_vk_refuse_scheme(const vk_device *d, const qat_graph *g, const qat_node *n);
const char *qat_vk_refuse_observe(const vk_device *d, const qat_graph *g, const qat_node *n);
const char *qat_vk_refuse_head(const vk_device *d, const qat_graph *g, const qat_node *n);

/* ---- exe.c ---- */

int qat_vk_compile(void *device, const qat_program *p, void **exe);
int qat_vk_run(void *device, void *exe, qat_runtime *rt);
int qat_vk_run_one(void *device, void *exe, qat_runtime *rt, int64_t claim);
int qat_vk_run_range(void *device, void *exe, qat_runtime *rt, int64_t first, int64_t count);
void qat_vk_release(void *device, void *exe);

#endif
