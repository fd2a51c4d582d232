/* What changes a GPU: the power limit and the persistence mode. Real hardware wants root for both. */
#include "simulator.h"

/* The window and the energy counter go on from what they show at the moment of the change. */
static void store_limit(struct passage *passage, uint32_t milliwatts) {
  struct gpu_state *gpu = passage->gpu;
  lock_state(passage->attachment);
  uint64_t at_us = now_us();
  uint32_t before_mw = average_mw(gpu, at_us);
  gpu->energy_mj = energy_mj(gpu, at_us);
  gpu->draw_before_mw = before_mw;
  gpu->draw_changed_us = at_us;
  gpu->limit_mw = milliwatts;
  unlock_state(passage->attachment);
}

EXPORT nvml_return nvmlDeviceSetPowerManagementLimit(nvml_device device, unsigned milliwatts) {
  struct passage passage;
  nvml_return code = enter(device, CALL_SET_LIMIT, &passage);
  if (code != NVML_SUCCESS) return code;
  const struct gpu_state *gpu = passage.gpu;
  if (milliwatts < gpu->limit_min_mw || milliwatts > gpu->limit_max_mw) return leave(&passage, NVML_INVALID_ARGUMENT);
  if (!gpu->ignores_limit) store_limit(&passage, milliwatts);
  return leave(&passage, NVML_SUCCESS);
}

EXPORT nvml_return nvmlDeviceSetPowerManagementLimit_v2(nvml_device device, const struct nvml_power_value *value) {
  if (value == NULL || value->scope != 0) return NVML_INVALID_ARGUMENT;
  if (value->version != VERSIONED(struct nvml_power_value, 2)) return NVML_ARGUMENT_VERSION_MISMATCH;
  return nvmlDeviceSetPowerManagementLimit(device, value->milliwatts);
}

EXPORT nvml_return nvmlDeviceSetPersistenceMode(nvml_device device, unsigned mode) {
  struct passage passage;
  nvml_return code = enter(device, CALL_SET_PERSISTENCE, &passage);
  if (code != NVML_SUCCESS) return code;
  if (mode > 1) return leave(&passage, NVML_INVALID_ARGUMENT);
  passage.gpu->persistence = mode;
  return leave(&passage, NVML_SUCCESS);
}
