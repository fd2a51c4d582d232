/* Versions, error strings, how many GPUs there are, and handles. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "simulator.h"

EXPORT const char *nvmlErrorString(nvml_return code) {
  switch (code) {
    case NVML_SUCCESS: return "Success";
    case NVML_UNINITIALIZED: return "Uninitialized";
    case NVML_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_NOT_SUPPORTED: return "Not Supported";
    case NVML_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_NOT_FOUND: return "Not Found";
    case NVML_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_TIMEOUT: return "Timeout";
    case NVML_GPU_IS_LOST: return "GPU is lost";
    case NVML_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_MEMORY: return "Insufficient Memory";
    case NVML_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
  }
}

static nvml_return copied(char *to, unsigned length, const char *from) {
  if (to == NULL) return NVML_INVALID_ARGUMENT;
  size_t needed = strlen(from) + 1;
  if (length < needed) return NVML_INSUFFICIENT_SIZE;
  memcpy(to, from, needed);
  return NVML_SUCCESS;
}

static nvml_return host_text(char *to, unsigned length, size_t offset) {
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  nvml_return code = copied(to, length, (const char *)attachment->host + offset);
  let_go(attachment);
  return code;
}

EXPORT nvml_return nvmlSystemGetDriverVersion(char *version, unsigned length) {
  return host_text(version, length, offsetof(struct host_state, driver_version));
}

EXPORT nvml_return nvmlSystemGetNVMLVersion(char *version, unsigned length) {
  return host_text(version, length, offsetof(struct host_state, nvml_version));
}

static nvml_return host_number(uint32_t *to, size_t offset) {
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  if (to != NULL) memcpy(to, (const char *)attachment->host + offset, sizeof *to);
  let_go(attachment);
  return to == NULL ? NVML_INVALID_ARGUMENT : NVML_SUCCESS;
}

EXPORT nvml_return nvmlSystemGetCudaDriverVersion(int *version) {
  return host_number((uint32_t *)version, offsetof(struct host_state, cuda_version));
}

EXPORT nvml_return nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

EXPORT nvml_return nvmlDeviceGetCount_v2(unsigned *count) {
  return host_number(count, offsetof(struct host_state, gpu_count));
}

static nvml_return handle_at(struct attachment *attachment, uint32_t index, nvml_device *device) {
  if (device == NULL) return NVML_INVALID_ARGUMENT;
  nvml_return code = meet_faults(attachment, &attachment->host->gpus[index], CALL_HANDLE);
  if (code == NVML_SUCCESS) *device = handle_of(attachment, index);
  return code;
}

EXPORT nvml_return nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *device) {
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  bool is_known = index < attachment->host->gpu_count;
  nvml_return code = is_known ? handle_at(attachment, index, device) : NVML_INVALID_ARGUMENT;
  let_go(attachment);
  return code;
}

typedef bool (*matcher)(const struct gpu_state *gpu, const void *wanted);

/* A search initialises the GPUs on its way, so that a slow one delays it, and nvml.h says that it fails when ANY GPU has
   fallen off the bus. By PCI address nothing is searched. */
static nvml_return pass_by(struct attachment *attachment, uint32_t index) {
  nvml_return code = meet_faults(attachment, &attachment->host->gpus[index], CALL_HANDLE);
  return code == NVML_GPU_IS_LOST ? code : NVML_SUCCESS;
}

static nvml_return handle_where(matcher is_wanted, const void *wanted, bool is_searched, nvml_device *device) {
  if (wanted == NULL) return NVML_INVALID_ARGUMENT;
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  nvml_return code = NVML_NOT_FOUND;
  bool is_found = false, any_is_lost = false;
  for (uint32_t index = 0; index < attachment->host->gpu_count; index++) {
    if (is_wanted(&attachment->host->gpus[index], wanted)) {
      code = handle_at(attachment, index, device);
      is_found = true;
    } else if (is_searched && !is_found) {
      any_is_lost |= pass_by(attachment, index) != NVML_SUCCESS;
    }
    any_is_lost |= is_searched && attachment->host->gpus[index].is_lost;
  }
  let_go(attachment);
  return any_is_lost ? NVML_GPU_IS_LOST : code;
}

static bool has_uuid(const struct gpu_state *gpu, const void *uuid) { return strcmp(gpu->uuid, uuid) == 0; }
static bool has_serial(const struct gpu_state *gpu, const void *serial) { return strcmp(gpu->serial, serial) == 0; }

struct place {
  unsigned domain, bus, device;
};

static bool is_at(const struct gpu_state *gpu, const void *wanted) {
  const struct place *place = wanted;
  return gpu->pci_domain == place->domain && gpu->pci_bus == place->bus && gpu->pci_device == place->device;
}

EXPORT nvml_return nvmlDeviceGetHandleByUUID(const char *uuid, nvml_device *device) {
  return handle_where(has_uuid, uuid, true, device);
}

EXPORT nvml_return nvmlDeviceGetHandleBySerial(const char *serial, nvml_device *device) {
  return handle_where(has_serial, serial, true, device);
}

/* Both "00000000:1A:00.0" and "1A:00.0" are understood. */
EXPORT nvml_return nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvml_device *device) {
  if (id == NULL) return NVML_INVALID_ARGUMENT;
  struct place place = {0};
  if (sscanf(id, "%x:%x:%x", &place.domain, &place.bus, &place.device) != 3) {
    place.domain = 0;
    if (sscanf(id, "%x:%x", &place.bus, &place.device) != 2) return NVML_INVALID_ARGUMENT;
  }
  return handle_where(is_at, &place, false, device);
}

EXPORT nvml_return nvmlDeviceGetIndex(nvml_device device, unsigned *index) {
  struct passage passage;
  nvml_return code = enter(device, CALL_IDENTITY, &passage);
  if (code != NVML_SUCCESS) return code;
  if (index != NULL) *index = passage.index;
  return leave(&passage, index == NULL ? NVML_INVALID_ARGUMENT : NVML_SUCCESS);
}

static nvml_return gpu_text(nvml_device device, char *to, unsigned length, size_t offset) {
  struct passage passage;
  nvml_return code = enter(device, CALL_IDENTITY, &passage);
  if (code != NVML_SUCCESS) return code;
  return leave(&passage, copied(to, length, (const char *)passage.gpu + offset));
}

EXPORT nvml_return nvmlDeviceGetName(nvml_device device, char *name, unsigned length) {
  return gpu_text(device, name, length, offsetof(struct gpu_state, name));
}

EXPORT nvml_return nvmlDeviceGetUUID(nvml_device device, char *uuid, unsigned length) {
  return gpu_text(device, uuid, length, offsetof(struct gpu_state, uuid));
}

EXPORT nvml_return nvmlDeviceGetSerial(nvml_device device, char *serial, unsigned length) {
  return gpu_text(device, serial, length, offsetof(struct gpu_state, serial));
}

EXPORT nvml_return nvmlDeviceGetPciInfo_v3(nvml_device device, struct nvml_pci *pci) {
  struct passage passage;
  nvml_return code = enter(device, CALL_PCI, &passage);
  if (code != NVML_SUCCESS) return code;
  if (pci == NULL) return leave(&passage, NVML_INVALID_ARGUMENT);
  const struct gpu_state *gpu = passage.gpu;
  *pci = (struct nvml_pci){.domain = gpu->pci_domain,
                           .bus = gpu->pci_bus,
                           .device = gpu->pci_device,
                           .device_id = gpu->pci_device_id,
                           .subsystem_id = gpu->pci_subsystem_id};
  unsigned domain = gpu->pci_domain & 0xFFFFu, bus = gpu->pci_bus & 0xFFu, slot = gpu->pci_device & 0x1Fu;
  snprintf(pci->legacy_id, sizeof pci->legacy_id, "%04X:%02X:%02X.0", domain, bus, slot);
  snprintf(pci->id, sizeof pci->id, "%08X:%02X:%02X.0", gpu->pci_domain, bus, slot);
  return leave(&passage, NVML_SUCCESS);
}
