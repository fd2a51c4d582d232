/* nvmlDeviceGetFieldValues: many values in one call, each with a code of its own. */
#include "simulator.h"

static void unsigned_int(struct nvml_field *field, uint32_t value) {
  field->type = VALUE_UNSIGNED_INT;
  field->value.unsigned_int = value;
}

static void signed_int(struct nvml_field *field, int32_t value) {
  field->type = VALUE_SIGNED_INT;
  field->value.signed_int = value;
}

static void long_long(struct nvml_field *field, uint64_t value) {
  field->type = VALUE_UNSIGNED_LONG_LONG;
  field->value.unsigned_long_long = value;
}

static uint32_t call_of(uint32_t id) {
  switch (id) {
    case FIELD_POWER_INSTANT: return CALL_FIELD_POWER_INSTANT;
    case FIELD_POWER_AVERAGE: return CALL_FIELD_POWER_AVERAGE;
    case FIELD_MEMORY_TEMPERATURE: return CALL_FIELD_MEMORY_TEMPERATURE;
    case FIELD_RECOVERY_ACTION: return CALL_FIELD_RECOVERY_ACTION;
    case FIELD_NVLINK_COUNT:
    case FIELD_NVLINK_STATE: return CALL_NVLINK;
    default: return CALL_FIELDS;
  }
}

static void fill_ecc(const struct gpu_state *gpu, struct nvml_field *field) {
  if (gpu->ecc_current) long_long(field, gpu->ecc_errors[field->id - FIELD_ECC_FIRST]);
  else field->code = NVML_NOT_SUPPORTED;
}

static void fill_link(const struct gpu_state *gpu, struct nvml_field *field) {
  if (field->scope < gpu->nvlinks) unsigned_int(field, (uint32_t)(gpu->nvlink_active_mask >> field->scope & 1u));
  else field->code = NVML_INVALID_ARGUMENT;
}

static void fill(const struct gpu_state *gpu, struct nvml_field *field, uint64_t at_us) {
  switch (field->id) {
    case FIELD_ECC_FIRST:
    case FIELD_ECC_FIRST + 1:
    case FIELD_ECC_LAST - 1:
    case FIELD_ECC_LAST: fill_ecc(gpu, field); break;
    case FIELD_MEMORY_TEMPERATURE: unsigned_int(field, (uint32_t)gpu->memory_temperature_c); break;
    case FIELD_ENERGY: long_long(field, energy_mj(gpu, at_us)); break;
    case FIELD_NVLINK_COUNT: unsigned_int(field, gpu->nvlinks); break;
    case FIELD_NVLINK_STATE: fill_link(gpu, field); break;
    case FIELD_POWER_AVERAGE: unsigned_int(field, average_mw(gpu, at_us)); break;
    case FIELD_POWER_INSTANT: unsigned_int(field, draw_mw(gpu)); break;
    case FIELD_LIMIT_MIN: unsigned_int(field, gpu->limit_min_mw); break;
    case FIELD_LIMIT_MAX: unsigned_int(field, gpu->limit_max_mw); break;
    case FIELD_LIMIT_DEFAULT: unsigned_int(field, gpu->limit_default_mw); break;
    case FIELD_LIMIT_CURRENT: unsigned_int(field, enforced_mw(gpu)); break;
    case FIELD_LIMIT_REQUESTED: unsigned_int(field, gpu->limit_mw); break;
    case FIELD_SHUTDOWN_MARGIN: signed_int(field, gpu->gpu_max_c - gpu->shutdown_c); break;
    case FIELD_SLOWDOWN_MARGIN: signed_int(field, gpu->gpu_max_c - gpu->slowdown_c); break;
    case FIELD_RECOVERY_ACTION: unsigned_int(field, gpu->recovery_action); break;
    default: field->code = NVML_NOT_SUPPORTED;
  }
}

EXPORT nvml_return nvmlDeviceGetFieldValues(nvml_device device, int count, struct nvml_field *fields) {
  struct passage passage;
  if (count <= 0 || fields == NULL) return NVML_INVALID_ARGUMENT;
  nvml_return code = enter(device, CALL_FIELDS, &passage);
  if (code != NVML_SUCCESS) return code;
  uint64_t at_us = now_us();
  for (int place = 0; place < count; place++) {
    struct nvml_field *field = &fields[place];
    field->timestamp_us = (int64_t)at_us;
    field->latency_us = 0;
    field->code = is_supported(passage.gpu, call_of(field->id)) ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
    if (field->code == NVML_SUCCESS) fill(passage.gpu, field, at_us);
  }
  return leave(&passage, NVML_SUCCESS);
}
