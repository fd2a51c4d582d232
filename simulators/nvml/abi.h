/* The part of NVML's interface that is simulated: return codes, versions and structures, as the binding lays them out.
   Declared here because the simulator must build where no NVIDIA header is installed. */
#pragma once
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define VERSIONED(type, number) ((uint32_t)(sizeof(type) | (number) << 24))
#define NOT_A_VALUE 0xFFFFFFFFu

typedef int nvml_return;
typedef void *nvml_device; /* opaque: a number, never a pointer to follow */

enum {
  NVML_SUCCESS = 0,
  NVML_UNINITIALIZED = 1,
  NVML_INVALID_ARGUMENT = 2,
  NVML_NOT_SUPPORTED = 3,
  NVML_NO_PERMISSION = 4,
  NVML_NOT_FOUND = 6,
  NVML_INSUFFICIENT_SIZE = 7,
  NVML_DRIVER_NOT_LOADED = 9,
  NVML_TIMEOUT = 10,
  NVML_GPU_IS_LOST = 15,
  NVML_LIB_RM_VERSION_MISMATCH = 18,
  NVML_MEMORY = 20,
  NVML_ARGUMENT_VERSION_MISMATCH = 25,
  NVML_UNKNOWN = 999
};

enum { CLOCK_TYPES = 4, ECC_TYPES = 2, ECC_COUNTERS = 2 };
enum { THRESHOLD_SHUTDOWN = 0, THRESHOLD_SLOWDOWN = 1, THRESHOLD_MEMORY_MAX = 2, THRESHOLD_GPU_MAX = 3, THRESHOLDS = 8 };
enum { SENSOR_GPU = 0 };
enum { EVENT_SINGLE_BIT = 1, EVENT_DOUBLE_BIT = 2, EVENT_XID = 8, EVENTS_SUPPORTED = 11 };
enum { REASON_IDLE = 1, REASON_SW_POWER_CAP = 4 };

enum {
  FIELD_ECC_FIRST = 3, /* single volatile, double volatile, single aggregate, double aggregate */
  FIELD_ECC_LAST = 6,
  FIELD_MEMORY_TEMPERATURE = 82,
  FIELD_ENERGY = 83,
  FIELD_NVLINK_COUNT = 91,
  FIELD_NVLINK_STATE = 165,
  FIELD_POWER_AVERAGE = 185,
  FIELD_POWER_INSTANT = 186,
  FIELD_LIMIT_MIN = 187,
  FIELD_LIMIT_MAX = 188,
  FIELD_LIMIT_DEFAULT = 189,
  FIELD_LIMIT_CURRENT = 190,
  FIELD_LIMIT_REQUESTED = 192,
  FIELD_SHUTDOWN_MARGIN = 193,
  FIELD_SLOWDOWN_MARGIN = 194,
  FIELD_RECOVERY_ACTION = 230
};

enum { VALUE_UNSIGNED_INT = 1, VALUE_UNSIGNED_LONG_LONG = 3, VALUE_SIGNED_INT = 5 };

struct nvml_field {
  uint32_t id, scope;
  int64_t timestamp_us, latency_us;
  uint32_t type;
  nvml_return code;
  union {
    uint64_t unsigned_long_long;
    uint32_t unsigned_int;
    int32_t signed_int;
  } value;
};
struct nvml_pci {
  char legacy_id[16];
  uint32_t domain, bus, device, device_id, subsystem_id;
  char id[32];
};
struct nvml_memory {
  uint64_t total, free, used;
};
struct nvml_memory_v2 {
  uint32_t version;
  uint64_t total, reserved, free, used;
};
struct nvml_utilization {
  uint32_t gpu, memory;
};
struct nvml_process {
  uint32_t pid;
  uint64_t used;
  uint32_t gpu_instance, compute_instance;
};
struct nvml_temperature {
  uint32_t version;
  int32_t sensor, celsius;
};
struct nvml_margin {
  uint32_t version;
  int32_t celsius;
};
struct nvml_power_value {
  uint32_t version, scope, milliwatts;
};
struct nvml_event {
  nvml_device device;
  uint64_t type, data;
  uint32_t gpu_instance, compute_instance;
};
_Static_assert(sizeof(struct nvml_field) == 40, "nvmlFieldValue_t");
_Static_assert(sizeof(struct nvml_pci) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(struct nvml_memory_v2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(struct nvml_process) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(struct nvml_event) == 32, "nvmlEventData_t");
