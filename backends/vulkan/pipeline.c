/* pipeline.c - pipelines, made when first used and kept for the life of the device; the
 * driver's own form of them is kept on disk, one file for each device and driver.
 */
#include "vulkan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CACHE_MOST = 64 << 20 };

struct vk_pipeline {
	vk_pipeline *next;
	VkPipeline handle;
	int shader;
	uint32_t spec[SPECS];
};

/* ---- the cache on disk ---- */

/* $XDG_CACHE_HOME/qatrun/vulkan-<uuid>.bin; 0: there is no place for it. */
static int cache_path(const vk_device *d, char *out, size_t room)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n = -1;

	if (base && *base == '/')
		n = snprintf(out, room, "%s", base);
	else if (home && *home == '/')
		n = snprintf(out, room, "%s/.cache", home);
	if (n < 0 || (size_t)n + 64 > room)
		return 0;
	mkdir(out, 0700);
	n += snprintf(out + n, room - (size_t)n, "/qatrun");
	mkdir(out, 0700);
	n += snprintf(out + n, room - (size_t)n, "/vulkan-");
	for (unsigned i = 0; i < VK_UUID_SIZE; i++)
		n += snprintf(out + n, room - (size_t)n, "%02x",
			      d->properties.pipelineCacheUUID[i]);
	snprintf(out + n, room - (size_t)n, ".bin");
	return 1;
}

/* NULL: none, or not to be read. Drivers check what they are given by its header. */
static void *read_cache(const vk_device *d, size_t *bytes)
{
	char path[512];
	FILE *f = cache_path(d, path, sizeof path) ? fopen(path, "rb") : NULL;
	void *data = NULL;
	long n;

	*bytes = 0;
	if (!f)
		return NULL;
	if (!fseek(f, 0, SEEK_END) && (n = ftell(f)) > 0 && n <= CACHE_MOST &&
	    !fseek(f, 0, SEEK_SET)) {
		data = malloc((size_t)n);
		if (data && fread(data, 1, (size_t)n, f) == (size_t)n)
			*bytes = (size_t)n;
	}
	fclose(f);
	return data;
}

/* As a whole or not at all: other processes read it. Failure costs time, nothing else. */
static void write_cache(const vk_device *d)
{
	char path[512], fresh[544];
	size_t n = 0;
	void *data = NULL;
	FILE *f;

	if (!d->n_cached || !cache_path(d, path, sizeof path) ||
	    d->f->GetPipelineCacheData(d->handle, d->cache, &n, NULL) || !n || n > CACHE_MOST)
		return;
	snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid());
	data = malloc(n);
	f = data && !d->f->GetPipelineCacheData(d->handle, d->cache, &n, data)
	  ? fopen(fresh, "wb") : NULL;
	if (f) {
		const int whole = fwrite(data, 1, n, f) == n;

		if (fclose(f) || !whole || rename(fresh, path))
			unlink(fresh);
	}
	free(data);
}

/* ---- open and close ---- */

static int make_layout(vk_device *d)
{
	const VkPushConstantRange push = { .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
					   .size = PUSH * 4 };
	VkDescriptorSetLayoutBinding binding[SLOTS];
	const VkDescriptorSetLayoutCreateInfo set = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = SLOTS, .pBindings = binding };
	const VkPipelineLayoutCreateInfo layout = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1,
		.pSetLayouts = &d->set_layout, .pushConstantRangeCount = 1,
		.pPushConstantRanges = &push };
	VkResult r;

	for (uint32_t i = 0; i < SLOTS; i++)
		binding[i] = (VkDescriptorSetLayoutBinding){
			.binding = i, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
			.descriptorCount = 1, .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT };
	r = d->f->CreateDescriptorSetLayout(d->handle, &set, NULL, &d->set_layout);
	if (!r)
		r = d->f->CreatePipelineLayout(d->handle, &layout, NULL, &d->layout);
	return r ? qat_vk_fail(d, r, "layout") : QAT_OK;
}

int qat_vk_pipelines_open(vk_device *d)
{
	VkPipelineCacheCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO };
	void *data = read_cache(d, &info.initialDataSize);
	VkResult r;

	info.pInitialData = data;
	r = d->f->CreatePipelineCache(d->handle, &info, NULL, &d->cache);
	free(data);
	return r ? qat_vk_fail(d, r, "pipeline cache") : make_layout(d);
}

void qat_vk_pipelines_close(vk_device *d)
{
	vk_pipeline *next;

	if (d->cache) {
		write_cache(d);
		d->f->DestroyPipelineCache(d->handle, d->cache, NULL);
	}
	for (vk_pipeline *p = d->pipelines; p; p = next) {
		next = p->next;
		d->f->DestroyPipeline(d->handle, p->handle, NULL);
		free(p);
	}
	if (d->layout)
		d->f->DestroyPipelineLayout(d->handle, d->layout, NULL);
	if (d->set_layout)
		d->f->DestroyDescriptorSetLayout(d->handle, d->set_layout, NULL);
}

/* ---- pipelines ---- */

static VkResult create(vk_device *d, vk_pipeline *p)
{
	const vk_shader *s = &qat_vk_shaders[p->shader];
	const VkShaderModuleCreateInfo code = {
		.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = s->bytes,
		.pCode = s->code };
	VkSpecializationMapEntry entry[SPECS];
	const VkSpecializationInfo spec = { .mapEntryCount = SPECS, .pMapEntries = entry,
					    .dataSize = sizeof p->spec, .pData = p->spec };
	VkComputePipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO, .layout = d->layout,
		.stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			   .stage = VK_SHADER_STAGE_COMPUTE_BIT, .pName = "main",
			   .pSpecializationInfo = &spec } };
	VkResult r = d->f->CreateShaderModule(d->handle, &code, NULL, &info.stage.module);

	if (r)
		return r;
	for (uint32_t i = 0; i < SPECS; i++)
		entry[i] = (VkSpecializationMapEntry){ .constantID = i, .offset = 4 * i,
						       .size = 4 };
	r = d->f->CreateComputePipelines(d->handle, d->cache, 1, &info, NULL, &p->handle);
	d->f->DestroyShaderModule(d->handle, info.stage.module, NULL);
	return r;
}

int qat_vk_pipeline(vk_device *d, VkPipeline *out, int shader, const uint32_t spec[SPECS])
{
	vk_pipeline *p = d->pipelines;
	VkResult r;

	while (p && (p->shader != shader || memcmp(p->spec, spec, sizeof p->spec)))
		p = p->next;
	if (!p) {
		p = calloc(1, sizeof *p);
		if (!p)
			return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
		p->shader = shader;
		memcpy(p->spec, spec, sizeof p->spec);
		r = create(d, p);
		if (r) {
			free(p);
			return qat_vk_fail(d, r, qat_vk_shaders[shader].name);
		}
		p->next = d->pipelines;
		d->pipelines = p;
		d->n_cached++;
	}
	*out = p->handle;
	return QAT_OK;
}
