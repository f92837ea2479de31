/* memory.c - memory of a device: large blocks, each one buffer, of which pieces are given
 * out; and copies to and from it, through staging memory where the host cannot see it.
 */
#include "vulkan.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((int64_t)1 << 20)
#define BLOCK (64 * MIB)
#define LARGE (16 * MIB)	/* from here on a piece has a block of its own */
#define STAGING (4 * MIB)

typedef struct span { int64_t first, end; } span;

struct vk_block {
	vk_block *next;
	VkDeviceMemory memory;
	VkBuffer buffer;
	int64_t bytes;
	char *host;		/* NULL: not visible */
	int for_staging, alone;
	span *used;		/* ascending */
	int64_t n_used, room;
};

VkBuffer qat_vk_buffer(const qat_memory *m)
{
	return m->block->buffer;
}

static int64_t rounded(int64_t n, int64_t to)
{
	return (n + to - 1) / to * to;
}

/* ---- blocks ---- */

enum {
	LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
	SEEN = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
	CACHED = VK_MEMORY_PROPERTY_HOST_CACHED_BIT
};

/* The first memory type with one of these sets of properties, the best first; -1: none. */
static int32_t memory_type(const vk_device *d, uint32_t allowed, const uint32_t *sets, int n)
{
	for (int s = 0; s < n; s++)
		for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++)
			if ((allowed >> i & 1) &&
			    (d->memory.memoryTypes[i].propertyFlags & sets[s]) == sets[s])
				return (int32_t)i;
	return -1;
}

static int32_t type_for(const vk_device *d, uint32_t allowed, int for_staging)
{
	static const uint32_t staging[] = { SEEN | CACHED, SEEN };
	static const uint32_t shared[] = { LOCAL | SEEN | CACHED, LOCAL | SEEN, SEEN };
	static const uint32_t local[] = { LOCAL, 0 };

	return for_staging ? memory_type(d, allowed, staging, 2)
	     : d->unified ? memory_type(d, allowed, shared, 3) : memory_type(d, allowed, local, 2);
}

static void block_free(vk_device *d, vk_block *b)
{
	if (!b)
		return;
	if (b->buffer)
		d->f->DestroyBuffer(d->handle, b->buffer, NULL);
	if (b->memory)
		d->f->FreeMemory(d->handle, b->memory, NULL);
	free(b->used);
	free(b);
}

static int bind_block(vk_device *d, vk_block *b)
{
	const VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = (VkDeviceSize)b->bytes,
		.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
			 VK_BUFFER_USAGE_TRANSFER_DST_BIT };
	VkMemoryAllocateInfo memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO };
	VkMemoryRequirements needs;
	VkResult r = d->f->CreateBuffer(d->handle, &info, NULL, &b->buffer);
	int32_t type;
	void *host = NULL;

	if (r)
		return qat_vk_fail(d, r, "buffer");
	d->f->GetBufferMemoryRequirements(d->handle, b->buffer, &needs);
	type = type_for(d, needs.memoryTypeBits, b->for_staging);
	if (type < 0)
		return qat_fail(QAT_ENOTSUP, "vulkan: %s has no memory for %s",
				d->properties.deviceName, b->for_staging ? "staging" : "buffers");
	memory.allocationSize = needs.size;
	memory.memoryTypeIndex = (uint32_t)type;
	r = d->f->AllocateMemory(d->handle, &memory, NULL, &b->memory);
	if (!r)
		r = d->f->BindBufferMemory(d->handle, b->buffer, b->memory, 0);
	if (!r && (d->unified || b->for_staging))
		r = d->f->MapMemory(d->handle, b->memory, 0, VK_WHOLE_SIZE, 0, &host);
	b->host = host;
	return r ? qat_vk_fail(d, r, "memory") : QAT_OK;
}

static int block_new(vk_device *d, vk_block **out, int64_t bytes, int for_staging, int alone)
{
	vk_block *b = calloc(1, sizeof *b);
	int rc;

	if (!b)
		return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	b->bytes = bytes;
	b->for_staging = for_staging;
	b->alone = alone;
	rc = bind_block(d, b);
	if (rc) {
		block_free(d, b);
		return rc;
	}
	b->next = d->blocks;
	d->blocks = b;
	*out = b;
	return QAT_OK;
}

/* ---- pieces ---- */

/* Where `bytes` are free, as an index among the used; -1: nowhere. */
static int64_t find_gap(const vk_block *b, int64_t bytes, int64_t *offset)
{
	for (int64_t i = 0; i <= b->n_used; i++) {
		const int64_t end = i < b->n_used ? b->used[i].first : b->bytes;

		*offset = i ? b->used[i - 1].end : 0;
		if (end - *offset >= bytes)
			return i;
	}
	return -1;
}

static int take(vk_block *b, int64_t at, int64_t offset, int64_t bytes)
{
	if (b->n_used == b->room) {
		const int64_t room = b->room ? 2 * b->room : 16;
		span *p = realloc(b->used, (size_t)room * sizeof *p);

		if (!p)
			return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
		b->used = p;
		b->room = room;
	}
	memmove(b->used + at + 1, b->used + at, (size_t)(b->n_used - at) * sizeof *b->used);
	b->used[at] = (span){ offset, offset + bytes };
	b->n_used++;
	return QAT_OK;
}

static int new_block_for(vk_device *d, vk_block **out, int64_t bytes, int for_staging)
{
	const int alone = bytes >= LARGE || for_staging;
	int rc;

	if (bytes > d->largest_allocation)
		return qat_fail(QAT_ENOMEM, "vulkan: %s gives at most %lld MiB in one piece, and "
				"%lld MiB are needed: a smaller batch, or length, needs less",
				d->properties.deviceName, (long long)(d->largest_allocation / MIB),
				(long long)(bytes / MIB));
	rc = block_new(d, out, alone || BLOCK > d->largest_allocation ? bytes : BLOCK,
		       for_staging, alone);
	if (rc == QAT_ENOMEM)
		return qat_fail(QAT_ENOMEM, "vulkan: %s has no memory for %lld MiB: a smaller "
				"batch, or length, needs less", d->properties.deviceName,
				(long long)(bytes / MIB));
	return rc;
}

static int piece(vk_device *d, qat_memory *m, int64_t bytes, int for_staging)
{
	int64_t at = -1;
	vk_block *b;
	int rc = QAT_OK;

	for (b = d->blocks; b && at < 0; b = at < 0 ? b->next : b)
		if (!b->alone && bytes < LARGE && !for_staging)
			at = find_gap(b, bytes, &m->offset);
	if (at < 0)
		rc = new_block_for(d, &b, bytes, for_staging);
	if (!rc && at < 0)
		at = find_gap(b, bytes, &m->offset);
	if (rc)
		return rc;
	m->block = b;
	return take(b, at, m->offset, bytes);
}

static int memory_new(vk_device *d, qat_memory **out, int64_t bytes, int for_staging)
{
	qat_memory *m;
	int rc;

	if (bytes < 0 || bytes > INT64_MAX / 2)
		return qat_fail(QAT_EINVAL, "vulkan: %lld bytes of memory asked for",
				(long long)bytes);
	m = calloc(1, sizeof *m);
	if (!m)
		return qat_fail(QAT_ENOMEM, "vulkan: out of memory");
	m->bytes = rounded(bytes ? bytes : 1, d->alignment);
	rc = piece(d, m, m->bytes, for_staging);
	if (rc) {
		free(m);
		return rc;
	}
	*out = m;
	return QAT_OK;
}

void qat_vk_free(void *device, qat_memory *m)
{
	vk_device *d = device;
	vk_block *b = m ? m->block : NULL, **at = &d->blocks;
	int64_t i = 0;

	if (!m)
		return;
	if (d->busy)			/* what runs may still use it */
		qat_vk_wait(d);
	while (i < b->n_used && b->used[i].first != m->offset)
		i++;
	if (i < b->n_used) {
		b->n_used--;
		memmove(b->used + i, b->used + i + 1,
			(size_t)(b->n_used - i) * sizeof *b->used);
	}
	if (b->alone && !b->n_used) {
		while (*at && *at != b)
			at = &(*at)->next;
		if (*at)
			*at = b->next;
		block_free(d, b);
	}
	free(m);
}

/* ---- copying ---- */

typedef struct copy {
	VkBuffer from, to;
	int64_t from_offset, to_offset, bytes;
} copy;

/* Record, run and wait: a copy, or where from is NULL zeros. */
static int run_copy(vk_device *d, const copy *c)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };
	const VkMemoryBarrier before = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT };
	const VkBufferCopy region = { .srcOffset = (VkDeviceSize)c->from_offset,
				      .dstOffset = (VkDeviceSize)c->to_offset,
				      .size = (VkDeviceSize)c->bytes };
	const VkMemoryBarrier after = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_MEMORY_READ_BIT |
				 VK_ACCESS_MEMORY_WRITE_BIT };
	const VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
				      .commandBufferCount = 1, .pCommandBuffers = &d->copies };
	VkResult r = d->f->ResetCommandBuffer(d->copies, 0);

	if (!r)
		r = d->f->BeginCommandBuffer(d->copies, &begin);
	if (r)
		return qat_vk_fail(d, r, "copy");
	d->f->CmdPipelineBarrier(d->copies, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
				 VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &before, 0, NULL, 0, NULL);
	if (c->from)
		d->f->CmdCopyBuffer(d->copies, c->from, c->to, 1, &region);
	else
		d->f->CmdFillBuffer(d->copies, c->to, region.dstOffset, region.size, 0);
	d->f->CmdPipelineBarrier(d->copies, VK_PIPELINE_STAGE_TRANSFER_BIT,
				 VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0,
				 1, &after, 0, NULL, 0, NULL);
	r = d->f->EndCommandBuffer(d->copies);
	if (!r)
		r = d->f->QueueSubmit(d->queue, 1, &submit, VK_NULL_HANDLE);
	if (r)
		return qat_vk_fail(d, r, "copy");
	d->busy = 1;
	return qat_vk_wait(d);
}

static int outside(const char *verb, const qat_memory *m, int64_t offset, int64_t bytes)
{
	return qat_fail(QAT_EINVAL, "vulkan: %s of %lld bytes at %lld is outside a memory of %lld",
			verb, (long long)bytes, (long long)offset, (long long)m->bytes);
}

static int inside(const qat_memory *m, int64_t offset, int64_t bytes)
{
	return offset >= 0 && bytes >= 0 && offset <= m->bytes && bytes <= m->bytes - offset;
}

/* One part, at most STAGING bytes, through the staging memory. */
static int staged(vk_device *d, qat_memory *m, int64_t offset, char *to, const char *from,
		  int64_t bytes)
{
	char *host = d->staging->block->host + d->staging->offset;
	copy c = { .from = qat_vk_buffer(m), .to = qat_vk_buffer(d->staging),
		   .from_offset = m->offset + offset, .to_offset = d->staging->offset,
		   .bytes = bytes };
	int rc;

	if (from) {
		memcpy(host, from, (size_t)bytes);
		c = (copy){ .from = c.to, .to = c.from, .from_offset = c.to_offset,
			    .to_offset = c.from_offset, .bytes = bytes };
	}
	rc = run_copy(d, &c);
	if (!rc && to)
		memcpy(to, host, (size_t)bytes);
	return rc;
}

static int transfer(vk_device *d, qat_memory *m, int64_t offset, char *to, const char *from,
		    int64_t bytes)
{
	char *host = m->block->host ? m->block->host + m->offset + offset : NULL;
	int rc = qat_vk_wait(d);

	if (rc || !bytes)
		return rc;
	if (host) {
		memcpy(to ? to : host, to ? host : from, (size_t)bytes);
		return QAT_OK;
	}
	for (int64_t i = 0; i < bytes && !rc; i += STAGING)
		rc = staged(d, m, offset + i, to ? to + i : NULL, from ? from + i : NULL,
			    bytes - i < STAGING ? bytes - i : STAGING);
	return rc;
}

int qat_vk_write(void *device, qat_memory *m, int64_t offset, const void *data, int64_t bytes)
{
	if (!inside(m, offset, bytes))
		return outside("write", m, offset, bytes);
	return transfer(device, m, offset, NULL, data, bytes);
}

int qat_vk_read(void *device, void *data, qat_memory *m, int64_t offset, int64_t bytes)
{
	if (!inside(m, offset, bytes))
		return outside("read", m, offset, bytes);
	return transfer(device, m, offset, data, NULL, bytes);
}

void *qat_vk_map(void *device, qat_memory *m)
{
	(void)device;
	return m->block->host ? m->block->host + m->offset : NULL;
}

static int zero(vk_device *d, qat_memory *m)
{
	const copy c = { .to = qat_vk_buffer(m), .to_offset = m->offset, .bytes = m->bytes };
	int rc;

	if (!m->block->host)
		return run_copy(d, &c);
	rc = qat_vk_wait(d);
	if (!rc)
		memset(m->block->host + m->offset, 0, (size_t)m->bytes);
	return rc;
}

int qat_vk_alloc(void *device, qat_memory **out, int64_t bytes, uint32_t use)
{
	vk_device *d = device;
	qat_memory *m = NULL;
	int rc = memory_new(d, &m, bytes, 0);

	if (!rc && use == QAT_MEM_STATE)
		rc = zero(d, m);
	if (rc)
		qat_vk_free(d, m);
	else
		*out = m;
	return rc;
}

/* ---- open and close ---- */

static int make_pool(vk_device *d)
{
	const VkCommandPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
		.queueFamilyIndex = d->family };
	VkCommandBufferAllocateInfo buffers = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1 };
	VkResult r = d->f->CreateCommandPool(d->handle, &pool, NULL, &d->pool);

	if (!r) {
		buffers.commandPool = d->pool;
		r = d->f->AllocateCommandBuffers(d->handle, &buffers, &d->copies);
	}
	return r ? qat_vk_fail(d, r, "command buffers") : QAT_OK;
}

int qat_vk_memory_open(vk_device *d)
{
	int rc = make_pool(d);

	if (!rc)
		rc = memory_new(d, &d->dummy, 64, 0);
	if (!rc && !d->dummy->block->host) {
		d->unified = 0;
		rc = memory_new(d, &d->staging, STAGING, 1);
	}
	return rc;
}

void qat_vk_memory_close(vk_device *d)
{
	vk_block *next;

	free(d->dummy);
	free(d->staging);
	for (vk_block *b = d->blocks; b; b = next) {
		next = b->next;
		block_free(d, b);
	}
	if (d->pool)
		d->f->DestroyCommandPool(d->handle, d->pool, NULL);
}
