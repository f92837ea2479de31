/* exe.c - a compiled graph: dispatches with their descriptors, and command buffers, one for
 * every stretch of claims that was ever run, recorded once.
 */
#include "vulkan.h"

#include <stdlib.h>
#include <string.h>

typedef struct segment {
	struct segment *next;
	int64_t first, count;		/* claims */
	VkCommandBuffer commands;
	int reports;			/* 1: something in it may find a bad value */
} segment;

typedef struct exe {
	vk_device *device;
	const qat_graph *g;
	int64_t n_claims;
	int64_t *start;			/* [n_claims + 1]: dispatches of each claim */
	int64_t first[QAT_PHASES + 1];	/* claims of each phase */
	vk_dispatch *dispatch;
	int64_t n;
	VkPipeline *pipeline;		/* [n] */
	VkDescriptorSet *set;		/* [n] */
	VkDescriptorPool pool;
	qat_memory *state;		/* two words: the first bad node, the run's position */
	int64_t position;		/* that is there */
	int64_t positions;		/* runs are at positions below this; 0: at any */
	qat_memory *tables;		/* of schemes, TABLE_BYTES apart; NULL: none */
	segment *segments;
} exe;

enum { TABLE_BYTES = 1024 };		/* 256 floats; also aligned enough for any device */

/* ---- compile ---- */

static int plan_claims(exe *x, const qat_program *p)
{
	vk_site s = { .device = x->device, .g = p->graph, .bindings = p->bindings };
	int rc = QAT_OK;

	for (int64_t i = 0; i < p->n_claims && !rc; i++) {
		s.n = p->graph->nodes[p->claims[i]->at];
		s.work = &p->workspaces[i];
		s.workspace = 0;
		x->start[i] = s.n_out;
		qat_vk_op(s.n->op)->plan(&s);
		rc = s.rc;
		if (!rc && s.workspace > p->claims[i]->workspace)
			rc = qat_fail(QAT_EABI, "vulkan: %s: wants %lld bytes of workspace, "
				      "claimed %lld", s.n->name, (long long)s.workspace,
				      (long long)p->claims[i]->workspace);
	}
	x->start[p->n_claims] = x->n = s.n_out;
	x->dispatch = s.out;
	for (int64_t i = 0; i < x->n; i++)
		if (s.out[i].positions && (!x->positions || s.out[i].positions < x->positions))
			x->positions = s.out[i].positions;
	return rc;
}

static void find_phases(exe *x, const qat_program *p)
{
	for (uint32_t phase = 0; phase <= QAT_PHASES; phase++) {
		int64_t i = 0;

		while (i < p->n_claims && p->graph->nodes[p->claims[i]->at]->phase < phase)
			i++;
		x->first[phase] = i;
	}
}

static int make_sets(exe *x)
{
	vk_device *d = x->device;
	const uint32_t n = (uint32_t)(x->n ? x->n : 1);
	const VkDescriptorPoolSize size = { .type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
					    .descriptorCount = n * SLOTS };
	const VkDescriptorPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = n,
		.poolSizeCount = 1, .pPoolSizes = &size };
	VkDescriptorSetAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO, .descriptorSetCount = 1,
		.pSetLayouts = &d->set_layout };
	VkResult r = d->f->CreateDescriptorPool(d->handle, &pool, NULL, &x->pool);

	info.descriptorPool = x->pool;
	for (int64_t i = 0; i < x->n && !r; i++)
		r = d->f->AllocateDescriptorSets(d->handle, &info, &x->set[i]);
	return r ? qat_vk_fail(d, r, "descriptor sets") : QAT_OK;
}

/* Every dispatch has its own copy of a table. */
static int make_tables(exe *x)
{
	int64_t n = 0;
	int rc = QAT_OK;

	for (int64_t i = 0; i < 2 * x->n; i++)
		n += x->dispatch[i / 2].table[i % 2] != NULL;
	if (n)
		rc = qat_vk_alloc(x->device, &x->tables, n * TABLE_BYTES, QAT_MEM_PARAMS);
	n = 0;
	for (int64_t i = 0; i < 2 * x->n && !rc; i++) {
		const qat_scheme *s = x->dispatch[i / 2].table[i % 2];
		const int64_t bytes = s ? (int64_t)4 << s->bits : 0;

		if (!s)
			continue;
		x->dispatch[i / 2].slot[SLOT_TABLES + i % 2] =
			(vk_slot){ x->tables, n * TABLE_BYTES, bytes };
		rc = qat_vk_write(x->device, x->tables, n++ * TABLE_BYTES, s->table, bytes);
	}
	return rc;
}

static void fill_set(exe *x, int64_t i)
{
	vk_device *d = x->device;
	VkDescriptorBufferInfo buffer[SLOTS];
	VkWriteDescriptorSet write = {
		.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = x->set[i],
		.descriptorCount = SLOTS, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
		.pBufferInfo = buffer };

	x->dispatch[i].slot[SLOT_STATE] = (vk_slot){ .memory = x->state, .bytes = 8 };
	for (int k = 0; k < SLOTS; k++) {
		vk_slot s = x->dispatch[i].slot[k];

		if (!s.memory)
			s = (vk_slot){ .memory = d->dummy, .bytes = 4 };
		buffer[k] = (VkDescriptorBufferInfo){
			.buffer = qat_vk_buffer(s.memory),
			.offset = (VkDeviceSize)(s.memory->offset + s.offset),
			.range = (VkDeviceSize)((s.bytes + 3) / 4 * 4) };
	}
	d->f->UpdateDescriptorSets(d->handle, 1, &write, 0, NULL);
}

static int make_pipelines(exe *x)
{
	int rc = QAT_OK;

	for (int64_t i = 0; i < x->n && !rc; i++)
		rc = qat_vk_pipeline(x->device, &x->pipeline[i], x->dispatch[i].shader,
				     x->dispatch[i].spec);
	return rc;
}

int qat_vk_compile(void *device, const qat_program *p, void **out)
{
	static const uint32_t fresh[2] = { UINT32_MAX, 0 };
	exe *x = calloc(1, sizeof *x);
	int rc = x ? QAT_OK : qat_fail(QAT_ENOMEM, "vulkan: out of memory");

	if (rc)
		return rc;
	x->device = device;
	x->g = p->graph;
	x->n_claims = p->n_claims;
	x->start = calloc((size_t)p->n_claims + 1, sizeof *x->start);
	rc = x->start ? plan_claims(x, p) : qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	find_phases(x, p);
	if (!rc) {
		x->pipeline = calloc((size_t)x->n + 1, sizeof *x->pipeline);
		x->set = calloc((size_t)x->n + 1, sizeof *x->set);
		rc = x->pipeline && x->set ? make_pipelines(x)
					   : qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	}
	if (!rc)
		rc = make_sets(x);
	if (!rc)
		rc = qat_vk_alloc(device, &x->state, sizeof fresh, QAT_MEM_SCRATCH);
	if (!rc)
		rc = qat_vk_write(device, x->state, 0, fresh, sizeof fresh);
	if (!rc)
		rc = make_tables(x);
	for (int64_t i = 0; i < x->n && !rc; i++)
		fill_set(x, i);
	if (rc)
		qat_vk_release(device, x);
	else
		*out = x;
	return rc;
}

void qat_vk_release(void *device, void *compiled)
{
	vk_device *d = device;
	exe *x = compiled;
	segment *next;

	if (!x)
		return;
	qat_vk_wait(d);
	for (segment *s = x->segments; s; s = next) {
		next = s->next;
		d->f->FreeCommandBuffers(d->handle, d->pool, 1, &s->commands);
		free(s);
	}
	if (x->pool)
		d->f->DestroyDescriptorPool(d->handle, x->pool, NULL);
	qat_vk_free(d, x->state);
	qat_vk_free(d, x->tables);
	free(x->start);
	free(x->dispatch);
	free(x->pipeline);
	free(x->set);
	free(x);
}

/* ---- recording ---- */

static void barrier(vk_device *d, VkCommandBuffer c, int to_host)
{
	const VkMemoryBarrier all = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
		.dstAccessMask = to_host ? VK_ACCESS_HOST_READ_BIT
			       : VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT };

	d->f->CmdPipelineBarrier(c, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
				 to_host ? VK_PIPELINE_STAGE_HOST_BIT
					 : VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
				 0, 1, &all, 0, NULL, 0, NULL);
}

static void record_dispatch(exe *x, VkCommandBuffer c, int64_t i)
{
	const vk_functions *f = x->device->f;
	const vk_dispatch *s = &x->dispatch[i];

	barrier(x->device, c, 0);
	f->CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, x->pipeline[i]);
	f->CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, x->device->layout, 0, 1,
				 &x->set[i], 0, NULL);
	f->CmdPushConstants(c, x->device->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH * 4,
			    s->push);
	f->CmdDispatch(c, s->groups[0], s->groups[1], s->groups[2]);
}

static int record(exe *x, segment *s)
{
	vk_device *d = x->device;
	const VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = d->pool,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1 };
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT };
	VkResult r = d->f->AllocateCommandBuffers(d->handle, &info, &s->commands);

	if (!r)
		r = d->f->BeginCommandBuffer(s->commands, &begin);
	if (r)
		return qat_vk_fail(d, r, "command buffer");
	for (int64_t i = x->start[s->first]; i < x->start[s->first + s->count]; i++) {
		record_dispatch(x, s->commands, i);
		s->reports |= x->dispatch[i].reports;
	}
	barrier(d, s->commands, 1);
	r = d->f->EndCommandBuffer(s->commands);
	return r ? qat_vk_fail(d, r, "command buffer") : QAT_OK;
}

static int find_segment(exe *x, segment **out, int64_t first, int64_t count)
{
	segment *s = x->segments;
	int rc;

	while (s && (s->first != first || s->count != count))
		s = s->next;
	*out = s;
	if (s)
		return QAT_OK;
	s = calloc(1, sizeof *s);
	if (!s)
		return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	s->first = first;
	s->count = count;
	rc = record(x, s);
	if (rc) {
		if (s->commands)
			x->device->f->FreeCommandBuffers(x->device->handle, x->device->pool, 1,
							 &s->commands);
		free(s);
		return rc;
	}
	s->next = x->segments;
	x->segments = *out = s;
	return QAT_OK;
}

/* ---- run ---- */

/* Which node met a value that is not finite, if one did; the flag is then clear again. */
static int read_flag(exe *x, qat_runtime *rt)
{
	static const uint32_t none = UINT32_MAX;
	uint32_t node = none;
	int rc = qat_vk_read(x->device, &node, x->state, 0, 4);

	if (rc || node == none)
		return rc;
	if (rt->bad_node == QAT_NONE)
		rt->bad_node = node;
	return qat_vk_write(x->device, x->state, 0, &none, 4);
}

/* Where the run's tokens stand in their sequences. */
static int set_position(exe *x, const qat_runtime *rt)
{
	const int known = rt->size >= offsetof(qat_runtime, position) + sizeof rt->position;
	const int64_t position = known ? rt->position : 0;
	const uint32_t word = (uint32_t)position;
	int rc;

	if (position == x->position)
		return QAT_OK;
	if (position < 0 || (x->positions && position >= x->positions))
		return qat_fail(QAT_EINVAL, "vulkan: position %lld is outside of the tables of "
				"positions", (long long)position);
	rc = qat_vk_write(x->device, x->state, 4, &word, 4);
	if (!rc)
		x->position = position;
	return rc;
}

int qat_vk_run_range(void *device, void *compiled, qat_runtime *rt, int64_t first, int64_t count)
{
	vk_device *d = device;
	exe *x = compiled;
	VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1 };
	segment *s;
	VkResult r;
	int rc;

	if (first < 0 || count < 0 || first > x->n_claims || count > x->n_claims - first)
		return qat_fail(QAT_EINVAL, "vulkan: no %lld claims from %lld on", (long long)count,
				(long long)first);
	if (d->lost)
		return qat_vk_fail(d, VK_ERROR_DEVICE_LOST, "run");
	if (!count)
		return QAT_OK;
	rc = set_position(x, rt);
	if (!rc)
		rc = find_segment(x, &s, first, count);
	if (rc)
		return rc;
	submit.pCommandBuffers = &s->commands;
	r = d->f->QueueSubmit(d->queue, 1, &submit, VK_NULL_HANDLE);
	if (r)
		return qat_vk_fail(d, r, "run");
	d->busy = 1;
	return s->reports ? read_flag(x, rt) : QAT_OK;
}

int qat_vk_run(void *device, void *compiled, qat_runtime *rt)
{
	exe *x = compiled;

	if (rt->phase >= QAT_PHASES)
		return qat_fail(QAT_EINVAL, "vulkan: no phase %u", rt->phase);
	return qat_vk_run_range(device, x, rt, x->first[rt->phase],
				x->first[rt->phase + 1] - x->first[rt->phase]);
}

int qat_vk_run_one(void *device, void *compiled, qat_runtime *rt, int64_t claim)
{
	return qat_vk_run_range(device, compiled, rt, claim, 1);
}
