import Foundation
import KnockBase
import Testing

@testable import Programs

@Suite struct MetricsTests {
  private let path = FileManager.default.temporaryDirectory.appendingPathComponent(
    "pyknock-\(UUID()).prom")
  private let start = 1_800_000_000 * Microseconds.second

  private func counters(running: Int = 0) throws -> Counters {
    Counters(
      tally: try Tally(), setsChanged: 0, setsNotChanged: 0, repeats: 0,
      commands: CommandRunner.Counters(), running: running, queued: 0, open: 0, notOpened: 0,
      filesBehind: 0)
  }

  private func value(_ name: String) throws -> Int? {
    let lines = try String(contentsOf: path, encoding: .utf8).split(separator: "\n")
    return lines.first { $0.hasPrefix("\(name) ") }.flatMap { Int($0.dropFirst(name.count + 1)) }
  }

  @Test func `only a receiver that makes rounds moves the last round`() throws {
    defer { try? FileManager.default.removeItem(at: path) }
    var metrics = try Metrics(argument(path.path), wallNow: start)
    let counters = try counters()
    // Beats, and seconds since the start with what the file then says of the last round.
    let rounds: [(beat: UInt32, at: Int64, shown: Int)] = [
      (0, 1, 0), (1, 16, 0), (2, 31, 0), (3, 46, 0), (4, 61, 61), (4, 76, 61), (4, 91, 61),
      (4, 106, 61), (4, 121, 61), (4, 200, 61), (5, 260, 260),
    ]
    for round in rounds {
      let time = round.at * Microseconds.second
      try metrics.update(counters, beat: round.beat, wallNow: start + time, now: time)
      let shown = try value("pyknock_last_round_time_seconds")
      #expect(shown == 1_800_000_000 + round.shown)
      let started = try value("pyknock_start_time_seconds")
      #expect(started == 1_800_000_000)
    }
  }

  @Test func `a counter that changes is written at once`() throws {
    defer { try? FileManager.default.removeItem(at: path) }
    var metrics = try Metrics(argument(path.path), wallNow: start)
    for number in 0..<3 {
      let time = Int64(number) * 15 * Microseconds.second
      try metrics.update(
        try counters(running: number), beat: UInt32(number), wallNow: start + time, now: time)
      #expect(metrics.nextDeadline == time + 15 * Microseconds.second)
      let written = try value("pyknock_running")
      let shown = try value("pyknock_last_round_time_seconds")
      #expect(written == number && shown == 1_800_000_000 + 15 * number)
    }
  }
}
