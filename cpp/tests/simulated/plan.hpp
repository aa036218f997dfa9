// A plan that fits the simulated machine.
#pragma once

#include "backend.hpp"
#include "processor.hpp"
#include "world.hpp"

// The tensors of its manifest are those of the engine, whatever its facts say.
inline segdeploy::detail::Artifact plan() {
  segdeploy::detail::Artifact artifact;
  artifact.path = "m.plan";
  auto& facts = artifact.manifest.facts;
  facts.model = "demo";
  facts.method = "fcn";
  facts.runtime = "tensorrt";
  facts.runtime_version = "10.9.0.34";
  facts.classes.names = {"a", "b"};
  segdeploy::detail::BuildRecord build;
  build.os = segdeploy::detail::system_name();
  build.compute_capability = "8.0";
  build.inputs = {{"image", "uint8", world::now.image}};
  build.outputs = {{"labels", "uint8", world::now.result}};
  artifact.manifest.build = build;
  return artifact;
}
