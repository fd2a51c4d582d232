/* What is read of a GPU: power, limits, temperatures, load, memory, clocks, ECC, MIG, NVLink, processes. */
#include <string.h>

#include "simulator.h"

typedef uint32_t (*reader)(const struct gpu_state *gpu);

static nvml_return number(nvml_device device, uint32_t call, reader read, uint32_t *to) {
  struct passage passage;
  nvml_return code = enter(device, call, &passage);
  if (code != NVML_SUCCESS) return code;
  if (to != NULL) *to = read(passage.gpu);
  return leave(&passage, to == NULL ? NVML_INVALID_ARGUMENT : NVML_SUCCESS);
}

typedef void (*pair_reader)(const struct gpu_state *gpu, uint32_t *first, uint32_t *second);

static nvml_return numbers(nvml_device device, uint32_t call, pair_reader read, uint32_t *first, uint32_t *second) {
  struct passage passage;
  nvml_return code = enter(device, call, &passage);
  if (code != NVML_SUCCESS) return code;
  if (first == NULL || second == NULL) return leave(&passage, NVML_INVALID_ARGUMENT);
  read(passage.gpu, first, second);
  return leave(&passage, NVML_SUCCESS);
}

/* Averaged over a second on most products; GA100 and older show the draw of the moment. */
static uint32_t usage(const struct gpu_state *gpu) {
  return gpu->usage_is_instant ? draw_mw(gpu) : average_mw(gpu, now_us());
}
static uint32_t limit(const struct gpu_state *gpu) { return gpu->limit_mw; }
static uint32_t limit_default(const struct gpu_state *gpu) { return gpu->limit_default_mw; }
static uint32_t limit_mode(const struct gpu_state *gpu) { return gpu->limit_max_mw != 0; }
static void constraints(const struct gpu_state *gpu, uint32_t *minimum, uint32_t *maximum) {
  *minimum = gpu->limit_min_mw;
  *maximum = gpu->limit_max_mw;
}

EXPORT nvml_return nvmlDeviceGetPowerUsage(nvml_device device, unsigned *milliwatts) {
  return number(device, CALL_POWER_USAGE, usage, milliwatts);
}
EXPORT nvml_return nvmlDeviceGetPowerManagementMode(nvml_device device, unsigned *mode) {
  return number(device, CALL_LIMIT_MODE, limit_mode, mode);
}
EXPORT nvml_return nvmlDeviceGetPowerManagementLimit(nvml_device device, unsigned *milliwatts) {
  return number(device, CALL_LIMIT, limit, milliwatts);
}
EXPORT nvml_return nvmlDeviceGetPowerManagementDefaultLimit(nvml_device device, unsigned *milliwatts) {
  return number(device, CALL_LIMIT_DEFAULT, limit_default, milliwatts);
}
EXPORT nvml_return nvmlDeviceGetEnforcedPowerLimit(nvml_device device, unsigned *milliwatts) {
  return number(device, CALL_LIMIT_ENFORCED, enforced_mw, milliwatts);
}
EXPORT nvml_return nvmlDeviceGetPowerManagementLimitConstraints(nvml_device device, unsigned *minimum, unsigned *maximum) {
  return numbers(device, CALL_LIMIT_CONSTRAINTS, constraints, minimum, maximum);
}

EXPORT nvml_return nvmlDeviceGetTotalEnergyConsumption(nvml_device device, unsigned long long *millijoules) {
  struct passage passage;
  nvml_return code = enter(device, CALL_ENERGY, &passage);
  if (code != NVML_SUCCESS) return code;
  if (millijoules != NULL) *millijoules = energy_mj(passage.gpu, now_us());
  return leave(&passage, millijoules == NULL ? NVML_INVALID_ARGUMENT : NVML_SUCCESS);
}

static uint32_t temperature(const struct gpu_state *gpu) { return (uint32_t)gpu->temperature_c; }

EXPORT nvml_return nvmlDeviceGetTemperature(nvml_device device, int sensor, unsigned *celsius) {
  if (sensor != SENSOR_GPU) return NVML_INVALID_ARGUMENT;
  return number(device, CALL_TEMPERATURE, temperature, celsius);
}

EXPORT nvml_return nvmlDeviceGetTemperatureV(nvml_device device, struct nvml_temperature *asked) {
  if (asked == NULL || asked->sensor != SENSOR_GPU) return NVML_INVALID_ARGUMENT;
  if (asked->version != VERSIONED(struct nvml_temperature, 1)) return NVML_ARGUMENT_VERSION_MISMATCH;
  return number(device, CALL_TEMPERATURE, temperature, (uint32_t *)&asked->celsius);
}

EXPORT nvml_return nvmlDeviceGetMarginTemperature(nvml_device device, struct nvml_margin *margin) {
  struct passage passage;
  if (margin == NULL) return NVML_INVALID_ARGUMENT;
  if (margin->version != VERSIONED(struct nvml_margin, 1)) return NVML_ARGUMENT_VERSION_MISMATCH;
  nvml_return code = enter(device, CALL_MARGIN, &passage);
  if (code != NVML_SUCCESS) return code;
  margin->celsius = passage.gpu->gpu_max_c - passage.gpu->temperature_c;
  return leave(&passage, NVML_SUCCESS);
}

EXPORT nvml_return nvmlDeviceGetTemperatureThreshold(nvml_device device, int threshold, unsigned *celsius) {
  struct passage passage;
  if (threshold < 0 || threshold >= THRESHOLDS || celsius == NULL) return NVML_INVALID_ARGUMENT;
  nvml_return code = enter(device, CALL_THRESHOLD, &passage);
  if (code != NVML_SUCCESS) return code;
  const struct gpu_state *gpu = passage.gpu;
  const int32_t known[] = {gpu->shutdown_c, gpu->slowdown_c, gpu->memory_max_c, gpu->gpu_max_c};
  if (threshold > THRESHOLD_GPU_MAX) return leave(&passage, NVML_NOT_SUPPORTED);
  *celsius = (unsigned)known[threshold];
  return leave(&passage, NVML_SUCCESS);
}

EXPORT nvml_return nvmlDeviceGetUtilizationRates(nvml_device device, struct nvml_utilization *rates) {
  struct passage passage;
  nvml_return code = enter(device, CALL_UTILIZATION, &passage);
  if (code != NVML_SUCCESS) return code;
  if (rates == NULL) return leave(&passage, NVML_INVALID_ARGUMENT);
  rates->gpu = utilization_percent(passage.gpu, now_us());
  rates->memory = passage.gpu->memory_utilization_percent;
  return leave(&passage, NVML_SUCCESS);
}

/* The first form counts what the driver reserved as used; the second tells it apart. */
EXPORT nvml_return nvmlDeviceGetMemoryInfo(nvml_device device, struct nvml_memory *memory) {
  struct passage passage;
  nvml_return code = enter(device, CALL_MEMORY, &passage);
  if (code != NVML_SUCCESS) return code;
  if (memory == NULL) return leave(&passage, NVML_INVALID_ARGUMENT);
  memory->total = passage.gpu->memory_total_bytes;
  memory->used = passage.gpu->memory_used_bytes + passage.gpu->memory_reserved_bytes;
  memory->free = memory->total - memory->used;
  return leave(&passage, NVML_SUCCESS);
}

EXPORT nvml_return nvmlDeviceGetMemoryInfo_v2(nvml_device device, struct nvml_memory_v2 *memory) {
  struct passage passage;
  if (memory == NULL) return NVML_INVALID_ARGUMENT;
  if (memory->version != VERSIONED(struct nvml_memory_v2, 2)) return NVML_ARGUMENT_VERSION_MISMATCH;
  nvml_return code = enter(device, CALL_MEMORY, &passage);
  if (code != NVML_SUCCESS) return code;
  memory->total = passage.gpu->memory_total_bytes;
  memory->reserved = passage.gpu->memory_reserved_bytes;
  memory->used = passage.gpu->memory_used_bytes;
  memory->free = memory->total - memory->used - memory->reserved;
  return leave(&passage, NVML_SUCCESS);
}

static nvml_return clock_of(nvml_device device, uint32_t call, int type, unsigned *megahertz) {
  struct passage passage;
  if (type < 0 || type >= CLOCK_TYPES || megahertz == NULL) return NVML_INVALID_ARGUMENT;
  nvml_return code = enter(device, call, &passage);
  if (code != NVML_SUCCESS) return code;
  *megahertz = call == CALL_CLOCK ? passage.gpu->clock_mhz[type] : passage.gpu->clock_max_mhz[type];
  return leave(&passage, NVML_SUCCESS);
}

EXPORT nvml_return nvmlDeviceGetClockInfo(nvml_device device, int type, unsigned *megahertz) {
  return clock_of(device, CALL_CLOCK, type, megahertz);
}
EXPORT nvml_return nvmlDeviceGetMaxClockInfo(nvml_device device, int type, unsigned *megahertz) {
  return clock_of(device, CALL_MAX_CLOCK, type, megahertz);
}

static void ecc_mode(const struct gpu_state *gpu, uint32_t *current, uint32_t *pending) {
  *current = gpu->ecc_current;
  *pending = gpu->ecc_pending;
}
static void mig_mode(const struct gpu_state *gpu, uint32_t *current, uint32_t *pending) {
  *current = gpu->mig_current;
  *pending = gpu->mig_pending;
}

EXPORT nvml_return nvmlDeviceGetEccMode(nvml_device device, unsigned *current, unsigned *pending) {
  return numbers(device, CALL_ECC_MODE, ecc_mode, current, pending);
}
EXPORT nvml_return nvmlDeviceGetMigMode(nvml_device device, unsigned *current, unsigned *pending) {
  return numbers(device, CALL_MIG, mig_mode, current, pending);
}

/* type: 0 corrected, 1 uncorrected; counter: 0 volatile, 1 aggregate. */
EXPORT nvml_return nvmlDeviceGetTotalEccErrors(nvml_device device, int type, int counter, unsigned long long *count) {
  struct passage passage;
  if (type < 0 || type >= ECC_TYPES || counter < 0 || counter >= ECC_COUNTERS || count == NULL)
    return NVML_INVALID_ARGUMENT;
  nvml_return code = enter(device, CALL_ECC_ERRORS, &passage);
  if (code != NVML_SUCCESS) return code;
  if (!passage.gpu->ecc_current) return leave(&passage, NVML_NOT_SUPPORTED);
  *count = passage.gpu->ecc_errors[counter * ECC_TYPES + type];
  return leave(&passage, NVML_SUCCESS);
}

static uint32_t performance_state(const struct gpu_state *gpu) { return gpu->performance_state; }
static uint32_t fan(const struct gpu_state *gpu) { return gpu->fan_percent; }
static uint32_t compute_mode(const struct gpu_state *gpu) { return gpu->compute_mode; }
static uint32_t persistence(const struct gpu_state *gpu) { return gpu->persistence; }

EXPORT nvml_return nvmlDeviceGetPerformanceState(nvml_device device, unsigned *state) {
  return number(device, CALL_PERFORMANCE_STATE, performance_state, state);
}
EXPORT nvml_return nvmlDeviceGetFanSpeed(nvml_device device, unsigned *percent) {
  return number(device, CALL_FAN, fan, percent);
}
EXPORT nvml_return nvmlDeviceGetComputeMode(nvml_device device, unsigned *mode) {
  return number(device, CALL_COMPUTE_MODE, compute_mode, mode);
}
EXPORT nvml_return nvmlDeviceGetPersistenceMode(nvml_device device, unsigned *mode) {
  return number(device, CALL_PERSISTENCE, persistence, mode);
}

EXPORT nvml_return nvmlDeviceGetCurrentClocksEventReasons(nvml_device device, unsigned long long *reasons) {
  struct passage passage;
  nvml_return code = enter(device, CALL_EVENT_REASONS, &passage);
  if (code != NVML_SUCCESS) return code;
  if (reasons == NULL) return leave(&passage, NVML_INVALID_ARGUMENT);
  const struct gpu_state *gpu = passage.gpu;
  *reasons = gpu->event_reasons;
  if (gpu->demand_mw > enforced_mw(gpu)) *reasons |= REASON_SW_POWER_CAP;
  if (gpu->utilization_percent == 0) *reasons |= REASON_IDLE;
  return leave(&passage, NVML_SUCCESS);
}
EXPORT nvml_return nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device device, unsigned long long *reasons) {
  return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

EXPORT nvml_return nvmlDeviceGetNvLinkState(nvml_device device, unsigned link, unsigned *is_active) {
  struct passage passage;
  nvml_return code = enter(device, CALL_NVLINK, &passage);
  if (code != NVML_SUCCESS) return code;
  if (is_active == NULL || link >= passage.gpu->nvlinks) return leave(&passage, NVML_INVALID_ARGUMENT);
  *is_active = (unsigned)(passage.gpu->nvlink_active_mask >> link & 1u);
  return leave(&passage, NVML_SUCCESS);
}

/* As the real one: too small a room is answered with how much is needed. */
static nvml_return processes(nvml_device device, uint32_t is_graphics, unsigned *count, struct nvml_process *to) {
  struct passage passage;
  nvml_return code = enter(device, is_graphics ? CALL_GRAPHICS_PROCESSES : CALL_COMPUTE_PROCESSES, &passage);
  if (code != NVML_SUCCESS) return code;
  if (count == NULL || (to == NULL && *count != 0)) return leave(&passage, NVML_INVALID_ARGUMENT);
  const struct gpu_state *gpu = passage.gpu;
  uint32_t known = gpu->process_count < PROCESSES_MAX ? gpu->process_count : PROCESSES_MAX;
  unsigned found = 0;
  for (uint32_t place = 0; place < known; place++) {
    const struct process_state *process = &gpu->processes[place];
    if (process->is_graphics != is_graphics) continue;
    if (found < *count)
      to[found] = (struct nvml_process){process->pid, process->used_bytes, NOT_A_VALUE, NOT_A_VALUE};
    found++;
  }
  code = found > *count ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS;
  *count = found;
  return leave(&passage, code);
}

EXPORT nvml_return nvmlDeviceGetComputeRunningProcesses_v3(nvml_device device, unsigned *count, struct nvml_process *to) {
  return processes(device, 0, count, to);
}
EXPORT nvml_return nvmlDeviceGetGraphicsRunningProcesses_v3(nvml_device device, unsigned *count, struct nvml_process *to) {
  return processes(device, 1, count, to);
}
