#include "manifest.hpp"

#include "images.hpp"
#include "records.hpp"
#include "words.hpp"

namespace segdeploy::detail {
namespace {

constexpr int SCHEMA = 2;                 // the last that is known here
constexpr std::size_t MAX_CLASSES = 255;  // the label 255 is "ignore"
constexpr std::string_view PREFIX = "segdeploy.";

[[noreturn]] void refuse(const std::string& text) { throw RecordError("SegdeployError", text); }

Type of(Type::Kind kind) { return Type{kind}; }
Type list_of(Type item) { return Type{Type::list, {std::move(item)}}; }
Type tuple_of(std::vector<Type> items) { return Type{Type::tuple, std::move(items)}; }
Type record_of(const Record& record) { return Type{Type::record, {}, &record}; }
Type one_of(const Words& words) { return Type{Type::word, {}, nullptr, &words}; }
Type or_null(Type type) {
  type.is_nullable = true;
  return type;
}

std::string float_text(double value) { return Json(value).dump(); }

std::string tuple_text(const Json& values) {
  std::string text;
  for (const Json& value : values) {
    text += (text.empty() ? "(" : ", ") + float_text(value.get<double>());
  }
  return text + ")";
}

void check_classes(const Json& classes) {
  const std::size_t count = classes["names"].size(), colours = classes["palette"].size();
  if (count < 2 || count > MAX_CLASSES) {
    refuse(std::to_string(count) + " classes; wanted 2 to " + std::to_string(MAX_CLASSES));
  }
  if (count != colours) {
    refuse(std::to_string(count) + " class names but " + std::to_string(colours) + " colours");
  }
  for (const Json& colour : classes["palette"]) {
    for (const Json& value : colour) {
      if (value < 0 || value > 255) refuse("a palette colour is not three values of 0 to 255");
    }
  }
}

void check_normalization(const Json& values) {
  for (const Json& deviation : values["std"]) {
    if (!(deviation.get<double>() > 0)) {
      refuse("standard deviation " + tuple_text(values["std"]) + "; wanted finite numbers above 0");
    }
  }
}

void check_moments(const Json& values) {
  const auto weight = values["weight"].get<std::string>();
  const std::size_t means = values["means"].size(), deviations = values["deviations"].size();
  if (means < 1 || means != deviations) {
    refuse(weight + ": " + std::to_string(means) + " means and " + std::to_string(deviations) +
           " deviations");
  }
  for (const Json& deviation : values["deviations"]) {
    if (deviation.get<double>() < 0) {
      refuse(weight + ": a deviation is not a finite number from 0 on");
    }
  }
}

bool is_capability(const std::string& text) {  // as in "8.9"
  constexpr const char* DIGITS = "0123456789";
  const std::size_t dot = text.find_first_not_of(DIGITS);
  return dot != 0 && dot != std::string::npos && text[dot] == '.' && text.size() == dot + 2 &&
         text.find_first_of(DIGITS, dot) == dot + 1;
}

void check_options(const Json& values) {
  if (values["workspace_bytes"] <= 0) {
    refuse("workspace of " + values["workspace_bytes"].dump() + " bytes; wanted more than 0");
  }
  const Json& level = values["optimization_level"];
  if (!level.is_null() && (level < 0 || level > 5)) {
    refuse("optimization level " + level.dump() + "; wanted 0 to 5");
  }
  for (const Json& item : values["compute_capabilities"]) {
    const auto text = item.get<std::string>();
    if (!is_capability(text)) {
      refuse("compute capability " + in_quotes(text) + "; wanted MAJOR.MINOR");
    }
  }
}

void check_manifest(const Json& values) {
  const auto model = values["model"].get<std::string>();
  if (model.empty() || !is_printable(model) || model.find('/') != std::string::npos ||
      model == ".") {
    refuse("model " + first_code_points(in_quotes(model), 60) + "; wanted a name without folders");
  }
  if (const Json& size = values["size"]; !size.is_null()) {
    for (const Json& side : size) {
      if (side < 1 || side > MAX_SIDE) {
        refuse("size " + size[0].dump() + "x" + size[1].dump() + "; wanted up to " +
               std::to_string(MAX_SIDE) + " a side");
      }
    }
  }
  if (const Json& batch = values["batch"]; !batch.is_null() && (batch < 1 || batch > MAX_BATCH)) {
    refuse("batch " + batch.dump() + "; wanted 1 to " + std::to_string(MAX_BATCH));
  }
  if (values["color_order"] != "RGB" || values["layout"] != "NHWC") {
    refuse("takes " + values["color_order"].get<std::string>() + " " +
           values["layout"].get<std::string>() + "; wanted RGB NHWC");
  }
}

const Words METHODS = {"Method", {"fcn", "pspnet", "deeplabv3", "deeplabv3plus"}};
const Words PRECISIONS = {"Precision", {"fp32", "fp16", "int8"}};
const Words OUTPUTS = {"Output", {"labels", "logits"}};
const Words TUNINGS = {"Tuning", {"plain", "any", "cpu", "gpu"}};
const Words MASK_PLACES = {"MaskPlace", {"graph", "host"}};
const Words RUNTIMES = {"Runtime", {"pytorch", "onnxruntime", "tensorrt", "tensorrt-rtx"}};
const Words HARDWARE = {"Hardware", {"same", "same-compute-capability", "ampere-plus"}};
const Words VERBOSITIES = {"Verbosity", {"none", "layer-names", "detailed"}};

const Type TEXT = of(Type::text), INTEGER = of(Type::integer), NUMBER = of(Type::number);
const Type FLAG = of(Type::boolean), TEXTS = list_of(TEXT), INTEGERS = list_of(INTEGER);
const Type THREE_NUMBERS = tuple_of({NUMBER, NUMBER, NUMBER});

const Record CLASSES = {
    {{"names", TEXTS}, {"palette", list_of(tuple_of({INTEGER, INTEGER, INTEGER}))}}, check_classes};
const Record NORMALIZATION = {{{"mean", THREE_NUMBERS}, {"std", THREE_NUMBERS}},
                              check_normalization};
const Record MOMENTS = {
    {{"weight", TEXT}, {"means", list_of(NUMBER)}, {"deviations", list_of(NUMBER)}}, check_moments};
const Record TENSOR = {{{"name", TEXT}, {"dtype", TEXT}, {"shape", INTEGERS}}};
const Record PROFILE = {
    {{"tensor", TEXT}, {"min", INTEGERS}, {"opt", INTEGERS}, {"max", INTEGERS}}};
const Record OPTIONS = {{{"profiles", list_of(list_of(record_of(PROFILE)))},
                         {"workspace_bytes", INTEGER},
                         {"optimization_level", or_null(INTEGER)},
                         {"tf32", FLAG},
                         {"compute_capabilities", TEXTS},
                         {"version_compatible", FLAG},
                         {"hardware", one_of(HARDWARE)},
                         {"refit", FLAG},
                         {"strip", FLAG},
                         {"sparsity", FLAG},
                         {"verbosity", one_of(VERBOSITIES)},
                         {"timing_cache", FLAG}},
                        check_options};
const Record BUILD = {{{"os", TEXT},
                       {"gpu", TEXT},
                       {"compute_capability", TEXT},
                       {"driver", TEXT},
                       {"inputs", list_of(record_of(TENSOR))},
                       {"outputs", list_of(record_of(TENSOR))},
                       {"activation_bytes", INTEGERS},
                       {"convolutions", list_of(tuple_of({TEXT, INTEGER, NUMBER}))},
                       {"options", record_of(OPTIONS)}}};
const Record MANIFEST = {{{"model", TEXT},
                          {"method", one_of(METHODS)},
                          {"classes", record_of(CLASSES)},
                          {"precision", one_of(PRECISIONS)},
                          {"output", one_of(OUTPUTS)},
                          {"size", or_null(tuple_of({INTEGER, INTEGER}))},
                          {"batch", or_null(INTEGER)},
                          {"dataset", or_null(TEXT)},
                          {"normalization", record_of(NORMALIZATION)},
                          {"batch_norms", list_of(record_of(MOMENTS)), true},
                          {"tuning", one_of(TUNINGS), true},
                          {"rewrites", TEXTS, true},
                          {"mask", one_of(MASK_PLACES), true},
                          {"color_order", TEXT},
                          {"layout", TEXT},
                          {"checkpoint", TEXT},
                          {"checkpoint_sha256", TEXT},
                          {"calibration", TEXT},
                          {"calibration_split", TEXT},
                          {"calibration_images", TEXTS},
                          {"quantization", TEXT},
                          {"runtime", or_null(one_of(RUNTIMES))},
                          {"runtime_version", TEXT},
                          {"machine", TEXT},
                          {"source_sha256", TEXT},
                          {"sha256", TEXT},
                          {"build", or_null(record_of(BUILD)), true},
                          {"asked", TEXT, true},
                          {"request", TEXT},
                          {"versions", list_of(tuple_of({TEXT, TEXT}))},
                          {"schema", INTEGER}},
                         check_manifest};

ClassSet read_classes(const Json& values) {
  ClassSet classes;
  values["names"].get_to(classes.names);
  values["palette"].get_to(classes.palette);
  return classes;
}

std::string text_or_none(const Json& value) {
  return value.is_null() ? "" : value.get<std::string>();
}

Manifest read_facts(const Json& values) {
  Manifest facts;
  facts.model = values["model"];
  facts.method = values["method"];
  facts.precision = values["precision"];
  facts.output = values["output"] == "labels" ? Output::labels : Output::logits;
  facts.mask_on_host = facts.output == Output::labels && values.value("mask", "graph") == "host";
  facts.classes = read_classes(values["classes"]);
  if (const Json& size = values["size"]; !size.is_null()) facts.size = Size{size[0], size[1]};
  if (const Json& batch = values["batch"]; !batch.is_null()) facts.batch = batch.get<int>();
  facts.dataset = text_or_none(values["dataset"]);
  facts.runtime = text_or_none(values["runtime"]);
  facts.runtime_version = values["runtime_version"];
  facts.machine = values["machine"];
  facts.source_sha256 = values["source_sha256"];
  facts.sha256 = values["sha256"];
  return facts;
}

std::vector<TensorInfo> read_tensors(const Json& values) {
  std::vector<TensorInfo> tensors;
  for (const Json& value : values) {
    tensors.push_back({value["name"], value["dtype"], value["shape"]});
  }
  return tensors;
}

BuildRecord read_build(const Json& values) {
  const Json& options = values["options"];
  BuildRecord build;
  build.os = values["os"];
  build.gpu = values["gpu"];
  build.compute_capability = values["compute_capability"];
  build.inputs = read_tensors(values["inputs"]);
  build.outputs = read_tensors(values["outputs"]);
  options["compute_capabilities"].get_to(build.compute_capabilities);
  build.hardware = options["hardware"];
  build.version_compatible = options["version_compatible"];
  build.strip = options["strip"];
  return build;
}

void check_schema(const Json& values, const std::string& where) {
  const auto schema = values.find("schema");
  if (schema == values.end() || schema->is_null()) {
    throw Error(where + ": carries no segdeploy manifest",
                "segdeploy export writes one into the graph");
  }
  if (!schema->is_number_integer() || *schema < 1 || *schema > SCHEMA) {
    throw Error(where + ": manifest schema " + first_code_points(python_text(*schema), 200) +
                    ", this segdeploy reads up to " + std::to_string(SCHEMA),
                "upgrade segdeploy, or build the artifact again");
  }
}

FullManifest read_values(const Json& values, const std::string& where) {
  check_schema(values, where);
  if (const auto name = first_unknown(MANIFEST, values)) {
    throw Error(where + ": unknown manifest key " + in_quotes(*name));
  }
  try {
    check_record(MANIFEST, values, "the manifest");
  } catch (const RecordError& error) {
    throw Error(where + ": its segdeploy manifest is damaged (" + error.what() + ")",
                "build the artifact again");
  }
  FullManifest manifest{read_facts(values), std::nullopt};
  const auto build = values.find("build");
  if (build != values.end() && !build->is_null()) manifest.build = read_build(*build);
  return manifest;
}

}  // namespace

FullManifest read_manifest(std::string_view json, const std::filesystem::path& where) {
  const Json values = read_json(json, where.string(), "is not JSON");
  if (!values.is_object()) throw Error(where.string() + ": holds no JSON object");
  return read_values(values, where.string());
}

FullManifest read_manifest(const std::map<std::string, std::string>& properties,
                           const std::filesystem::path& where) {
  Json values = Json::object();
  for (const auto& [key, text] : properties) {
    if (key.compare(0, PREFIX.size(), PREFIX) != 0) continue;
    const std::string name = key.substr(PREFIX.size());
    if (find_field(MANIFEST, name) == nullptr) continue;
    values[name] = read_json(text, where.string(), "its segdeploy metadata is damaged");
  }
  return read_values(values, where.string());
}

}  // namespace segdeploy::detail
