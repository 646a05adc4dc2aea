#include "binding/lane_calls.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "binding/arguments.h"
#include "binding/engine_calls.h"
#include "kernel/clock.h"
#include "lane/bpf_calls.h"
#include "lane/lane.h"
#include "lane/pins.h"

namespace twill {

namespace {

// Words of a record: LANE_RECORD_WORDS of src/native/counters.ts.
namespace record {
enum : size_t { kKind, kNetwork, kLength, kPeer, kPort, kMtu, kRow, kWords };
constexpr uint32_t kDelete = 1;
constexpr uint32_t kAnotherLease = 2;
}  // namespace record

uint32_t Word(const Napi::Object& from, const char* key) { return from.Get(key).ToNumber().Uint32Value(); }

// probeLane() → {tcx} or {errno, operation}
Napi::Value Probe(const Napi::CallbackInfo& info) {
  Result<bool> answer = ProbeLane();
  if (!answer.ok()) return ToObject(info.Env(), answer.failure());
  auto object = Napi::Object::New(info.Env());
  object.Set("tcx", answer.value());
  return object;
}

// openLane(id, options) → {pinned, encapInstructions, decapInstructions} or {errno, operation}
Napi::Value Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "openLane(id, options)");
  if (!engine) return ToObject(env, Failure{ENOENT, "openLane"});
  if (!info[1].IsObject()) {
    ThrowTypeError(env, "openLane(id, options): options is no object");
    return env.Undefined();
  }
  const auto from = info[1].As<Napi::Object>();
  LaneOptions options;
  options.host = {Word(from, "ownNetwork"), Word(from, "ownMask"),  Word(from, "listenAddress"),
                  Word(from, "publicIp"),   0,                      engine->granted().device_index,
                  Word(from, "uplinkIndex")};
  options.host.port = static_cast<uint16_t>(Word(from, "port"));
  options.mode = static_cast<LaneMode>(Word(from, "mode"));
  options.quiet_ms = Word(from, "quietMs");
  options.packets_per_ms = Word(from, "packetsPerMs");
  options.pin_folder = from.Get("pinFolder").ToString().Utf8Value();
  if (options.mode > LaneMode::kAlone || options.host.listen_address == 0) {
    return ToObject(env, Failure{EINVAL, "openLane"});
  }
  if (const auto failure = engine->lanes().Open(std::move(options))) return ToObject(env, *failure);
  const Lane& lane = *engine->lanes().latest();
  auto object = Napi::Object::New(env);
  object.Set("pinned", lane.pinned());
  object.Set("encapInstructions", static_cast<double>(lane.encap_instructions()));
  object.Set("decapInstructions", static_cast<double>(lane.decap_instructions()));
  return object;
}

// attachLane(id) → 0 or -errno
Napi::Value Attach(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "attachLane(id)");
  return ToNumber(info.Env(), engine ? engine->lanes().Attach() : -ENOENT);
}

// setLaneMode(id, mode) → 0 or -errno
Napi::Value SetMode(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 2, "setLaneMode(id, mode)");
  if (!engine) return ToNumber(info.Env(), -ENOENT);
  const auto mode = static_cast<LaneMode>(info[1].ToNumber().Uint32Value());
  return ToNumber(info.Env(), mode > LaneMode::kAlone ? -EINVAL : engine->lanes().SetMode(mode));
}

int ApplyRecord(Lane* lane, const int32_t* words) noexcept {
  const auto word = [words](size_t field) { return static_cast<uint32_t>(words[field]); };
  if (word(record::kLength) > 32 || word(record::kRow) >= static_cast<uint32_t>(kMaxRows)) return -EINVAL;
  LaneChange change;
  change.is_delete = (word(record::kKind) & record::kDelete) != 0;
  change.is_another_lease = (word(record::kKind) & record::kAnotherLease) != 0;
  change.network = word(record::kNetwork);
  change.length = word(record::kLength);
  change.peer = word(record::kPeer);
  change.port = static_cast<uint16_t>(word(record::kPort));
  change.mtu = static_cast<uint16_t>(std::min<uint32_t>(word(record::kMtu), kMaxPacket));
  change.row = word(record::kRow);
  return lane->Apply(change);
}

// updateLane(id, records: Int32Array) → 0 or -errno of the first that fails
Napi::Value Update(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "updateLane(id, records)");
  Lane* lane = engine ? engine->lanes().latest() : nullptr;
  if (lane == nullptr) return ToNumber(env, -ENOENT);
  const auto records = Int32s(info[1], 0);
  if (!records || records->ElementLength() % record::kWords != 0) return ToNumber(env, -EINVAL);
  for (size_t at = 0; at < records->ElementLength(); at += record::kWords) {
    const int error = ApplyRecord(lane, records->Data() + at);
    if (error != 0) return ToNumber(env, error);
  }
  return ToNumber(env, 0);
}

// endLane(id) → 0 or -errno: what is not pinned carries nothing any more, and its counters are final.
Napi::Value EndLane(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "endLane(id)");
  if (engine) engine->lanes().End();
  return ToNumber(info.Env(), engine ? 0 : -ENOENT);
}

// readLaneTotals(id, values: Float64Array, former?: boolean) → 0 or -errno. Former: of the lane that an earlier process
// had pinned, and whose place this one took.
Napi::Value ReadTotals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "readLaneTotals(id, values)");
  if (!engine) return ToNumber(env, -ENOENT);
  auto values = Float64s(info[1], kLaneTotals);
  if (!values) return ToNumber(env, -EINVAL);
  uint64_t totals[kLaneTotals] = {};
  const Lane* lane = engine->lanes().latest();
  const bool former = info[2].ToBoolean().Value();
  const int error = lane == nullptr ? 0 : former ? lane->ReadFormerTotals(totals) : lane->ReadTotals(totals);
  for (size_t i = 0; i < kLaneTotals; i++) (*values)[i] = static_cast<double>(totals[i]);
  return ToNumber(env, error);
}

// readLaneHeard(id, ageMs: Float64Array, first) → 0 or -errno
Napi::Value ReadHeard(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 3, "readLaneHeard(id, ageMs, first)");
  if (!engine) return ToNumber(env, -ENOENT);
  auto ages = Float64s(info[1], 0);
  if (!ages) return ToNumber(env, -EINVAL);
  const Lane* lane = engine->lanes().latest();
  const size_t first = std::min<size_t>(info[2].ToNumber().Uint32Value(), kMaxRows);
  const size_t rows = std::min<size_t>(ages->ElementLength(), kMaxRows - first);
  const uint64_t now_ns = MonotonicNs();
  for (size_t i = 0; i < rows; i++) {
    const uint64_t heard_ns = lane == nullptr ? 0 : lane->peer(first + i).heard_ns;
    const uint64_t age_ns = now_ns > heard_ns ? now_ns - heard_ns : 0;
    (*ages)[i] = heard_ns == 0 ? -1 : static_cast<double>(age_ns / 1'000'000);
  }
  return ToNumber(env, 0);
}

// A program for a host out of a book, so that a listing of it is the same everywhere.
void WriteProgram(const std::string& name, const LaneMapFds& maps, bpf::Assembler* program) noexcept {
  const LaneHost host = {0x0a050100, 0xffffff00, 0xac140001, 0xac140001, 8285, 3, 2};
  (name == "decap" ? WriteDecap : WriteEncap)(program, host, maps);
}

// laneProgram(name) → {code: Uint8Array, remarks: [{instruction, text, isLabel}]}
Napi::Value Program(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!CheckArguments(info, 1, "laneProgram(name)")) return env.Undefined();
  bpf::Assembler program;
  WriteProgram(info[0].ToString().Utf8Value(), {1, 2, 3, 4, 5, 6, 7}, &program);
  const auto& instructions = program.Finish();
  const size_t bytes = instructions.size() * sizeof instructions[0];
  auto code = Napi::Uint8Array::New(env, bytes);
  std::copy_n(reinterpret_cast<const uint8_t*>(instructions.data()), bytes, code.Data());
  auto remarks = Napi::Array::New(env);
  for (uint32_t i = 0; i < program.remarks().size(); i++) {
    const bpf::Remark& remark = program.remarks()[i];
    auto entry = Napi::Object::New(env);
    entry.Set("instruction", static_cast<double>(remark.instruction));
    entry.Set("text", remark.text);
    entry.Set("isLabel", remark.is_label);
    remarks.Set(i, entry);
  }
  auto object = Napi::Object::New(env);
  object.Set("code", code);
  object.Set("remarks", remarks);
  return object;
}

// verifyLane(name) → {errno, log}: what the verifier of this kernel says; errno 0 when it accepts it
Napi::Value Verify(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!CheckArguments(info, 1, "verifyLane(name)")) return env.Undefined();
  LaneMaps maps;
  WorkerBoard board(1);
  if (const auto failure = board.Make(false)) return ToObject(env, *failure);
  if (const auto failure = maps.Make(nullptr, board.map())) return ToObject(env, *failure);
  bpf::Assembler program;
  WriteProgram(info[0].ToString().Utf8Value(), maps.fds(), &program);
  std::string log;
  const UniqueFd loaded = bpf::LoadProgram(program.Finish(), kProgramLicense, "twill_verify", &log);
  auto object = Napi::Object::New(env);
  object.Set("errno", loaded.valid() ? 0 : errno);
  object.Set("log", log);
  return object;
}

}  // namespace

void AddLaneCalls(Napi::Env env, Napi::Object exports) {
  exports.Set("probeLane", Napi::Function::New(env, Probe, "probeLane"));
  exports.Set("openLane", Napi::Function::New(env, Open, "openLane"));
  exports.Set("attachLane", Napi::Function::New(env, Attach, "attachLane"));
  exports.Set("setLaneMode", Napi::Function::New(env, SetMode, "setLaneMode"));
  exports.Set("updateLane", Napi::Function::New(env, Update, "updateLane"));
  exports.Set("endLane", Napi::Function::New(env, EndLane, "endLane"));
  exports.Set("readLaneTotals", Napi::Function::New(env, ReadTotals, "readLaneTotals"));
  exports.Set("readLaneHeard", Napi::Function::New(env, ReadHeard, "readLaneHeard"));
  exports.Set("laneProgram", Napi::Function::New(env, Program, "laneProgram"));
  exports.Set("verifyLane", Napi::Function::New(env, Verify, "verifyLane"));
}

}  // namespace twill
