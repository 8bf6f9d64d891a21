#include "rewrite.h"

#include <fprnn/models/safetensors.h>
#include <fprnn/models/safetensors_writer.h>

#include "context.h"

namespace fprnn::tests {

void rewrite(const std::string& from, const std::string& to) {
  const Context context = test_context();
  const SafetensorsFile file = SafetensorsFile::read(from);
  SafetensorsWriter writer;
  for (const auto& [key, value] : file.metadata()) writer.add_metadata(key, value);
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.dtype == "F64" || entry.dtype == "F32")
      writer.add(entry.name, file.tensor(context, entry.name));
    else
      writer.add(entry.name, file.ints(context, entry.name));
  }
  writer.write(to);
}

}  // namespace fprnn::tests
