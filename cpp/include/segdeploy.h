/* segdeploy for C, and for whatever calls C: Rust, Go, C#. The C++ header beside it says more.
 *
 * A function returns SEGDEPLOY_OK, or a kind of error and fills in `error`, which may be NULL.
 * Whatever *_open made is freed by *_close once. NULL in place of an engine or a session is no
 * crash: it is closed in silence, has empty facts and no classes, and cannot be run. */
#ifndef SEGDEPLOY_H
#define SEGDEPLOY_H
/* NOLINTBEGIN(modernize-*): it is C. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEGDEPLOY_C_API __attribute__((visibility("default")))
#define SEGDEPLOY_ABI 1 /* changes when a struct or a function does */

typedef struct segdeploy_engine segdeploy_engine;   /* shared by all threads */
typedef struct segdeploy_session segdeploy_session; /* used by one thread at a time */

typedef enum {
  SEGDEPLOY_OK = 0,
  SEGDEPLOY_ERROR = 1,  /* what a user can put right */
  SEGDEPLOY_MISFIT = 2, /* an engine that does not fit here, or is damaged: build it again */
  SEGDEPLOY_BUG = 3     /* anything else, memory that ran out among it */
} segdeploy_status;

typedef struct {
  char problem[1024]; /* UTF-8, cut where it is longer */
  char hint[512];
} segdeploy_error;

typedef struct {
  int32_t threads;                 /* of ONNX Runtime, up to 1024; 0: as suits the cores */
  const char* device;              /* "cpu", "cuda:0"; NULL: what the artifact is made for */
  const char* onnxruntime_library; /* file to load; NULL: as the loader finds it */
  const char* lean_runtime;        /* of a version-compatible plan; NULL: none */
} segdeploy_options;

typedef struct {
  const uint8_t* data;
  int32_t height;
  int32_t width;
  int32_t channels; /* 3 or 4 */
  int32_t is_bgr;   /* 0: RGB */
  int64_t stride;   /* bytes from one row to the next; 0: rows without gaps */
} segdeploy_image;

typedef struct {
  void* data;
  int32_t height;
  int32_t width;
  int32_t bytes;  /* of a label: 1 or 4 */
  int64_t stride; /* bytes from one row to the next; 0: rows without gaps */
} segdeploy_labels;

typedef struct {
  double copy_in_ms;
  double network_ms;
  double labels_ms;
} segdeploy_timing;

/* Strings live as long as the engine. */
typedef struct {
  const char* model;
  const char* precision;
  const char* runtime;
  const char* device;
  int32_t returns_logits;
  int32_t classes;
  int32_t height; /* 0: any */
  int32_t width;
  int32_t batch; /* 0: any */
  int32_t logits_stride;
} segdeploy_facts;

SEGDEPLOY_C_API int32_t segdeploy_abi(void);
SEGDEPLOY_C_API const char* segdeploy_version(void);

SEGDEPLOY_C_API segdeploy_status segdeploy_engine_open(const char* path,
                                                       const segdeploy_options* options,
                                                       segdeploy_engine** engine,
                                                       segdeploy_error* error);
SEGDEPLOY_C_API void segdeploy_engine_close(segdeploy_engine* engine);
SEGDEPLOY_C_API segdeploy_facts segdeploy_engine_facts(const segdeploy_engine* engine);
/* NULL where there is no such class. */
SEGDEPLOY_C_API const char* segdeploy_class_name(const segdeploy_engine* engine, int32_t index);
/* 0xRRGGBB; -1 where there is no such class. */
SEGDEPLOY_C_API int32_t segdeploy_class_color(const segdeploy_engine* engine, int32_t index);

/* A session may outlive its engine. */
SEGDEPLOY_C_API segdeploy_status segdeploy_session_open(const segdeploy_engine* engine,
                                                        segdeploy_session** session,
                                                        segdeploy_error* error);
SEGDEPLOY_C_API void segdeploy_session_close(segdeploy_session* session);

/* `timing` may be NULL. */
SEGDEPLOY_C_API segdeploy_status segdeploy_run(segdeploy_session* session,
                                               const segdeploy_image* images, size_t count,
                                               const segdeploy_labels* labels,
                                               segdeploy_timing* timing, segdeploy_error* error);
SEGDEPLOY_C_API segdeploy_status segdeploy_run_logits(segdeploy_session* session,
                                                      const segdeploy_image* images, size_t count,
                                                      float* logits, size_t size,
                                                      segdeploy_timing* timing,
                                                      segdeploy_error* error);
SEGDEPLOY_C_API segdeploy_status segdeploy_enqueue(segdeploy_session* session, const void* images,
                                                   size_t count, int32_t height, int32_t width,
                                                   void* result, void* stream,
                                                   segdeploy_error* error);

/* `rgb`: height * width * 3 bytes. */
SEGDEPLOY_C_API segdeploy_status segdeploy_overlay(const segdeploy_engine* engine,
                                                   const segdeploy_image* image,
                                                   const segdeploy_labels* labels, double opacity,
                                                   uint8_t* rgb, segdeploy_error* error);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-*) */
#endif
