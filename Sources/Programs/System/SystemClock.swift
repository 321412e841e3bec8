import CSystem
import KnockBase

/// The clocks of the system. Source: clock_gettime(2).
enum SystemClock {
  /// Microseconds since the Unix epoch, by the clock that users set.
  static func wall() -> Int64 { csys_wall_microseconds() }

  /// Microseconds by CLOCK_MONOTONIC. Nobody can set this clock, and it stands still while the machine sleeps, as
  /// poll(2) does. For limits: nothing can miss one because the machine slept.
  static func monotonic() -> Int64 { csys_monotonic_microseconds() }

  /// Microseconds by CLOCK_BOOTTIME. Nobody can set this clock, and it also runs while the machine sleeps. For how
  /// long something is open.
  static func sinceBoot() -> Int64 { csys_boot_microseconds() }

  /// When a process has started, in microseconds since the Unix epoch; nil if the system does not tell. Source:
  /// proc_pid_stat(5).
  static func start(of process: Int32) -> Int64? {
    guard let memory = Storage<UInt8>.mapped(32) else { return nil }
    var path = StorageText(memory)
    path.append("/proc/")
    path.append(process)
    path.append("/stat")
    guard let path = unsafe path.start else { return nil }
    var ticks: Int64?
    do throws(SystemError) {
      let file = try unsafe TextFile(public: Argument(path))
      file.bytes.withElements(0..<file.count) { text in
        var field = 0
        text.visitWords { word in
          // The second field, a name in parentheses, may have blanks in it.
          field = word[word.count - 1] == UInt8(ascii: ")") ? 2 : field + 1
          if field == 22 { ticks = Numbers.integer(word) }
        }
      }
    } catch {}
    guard let ticks, ticks < 1 << 40 else { return nil }
    // USER_HZ is 100 on every machine that we build for.
    return wall() - sinceBoot() + ticks * (Microseconds.second / 100)
  }

  /// Waits until a moment in monotonic microseconds.
  static func pause(until moment: Int64) {
    while true {
      let rest = moment - monotonic()
      guard rest > 0 else { return }
      pause(for: rest)
    }
  }

  /// Waits for a time (microseconds), or until a signal comes.
  static func pause(for time: Int64) {
    var ready: UInt64 = 0
    _ = unsafe csys_wait(nil, 0, 0, 0, time, &ready)
  }
}

extension TextSink where Self: ~Copyable {
  /// A time in microseconds since the Unix epoch as `2026-11-24T12:00:00Z`. Source: gmtime(3).
  mutating func append(utc time: Int64) {
    append(0..<6, of: time, isLocal: false)
    append("Z")
  }

  /// The same in the time zone of the user, to the minute: `2026-11-24 14:05`, or without the date. Source:
  /// localtime(3).
  mutating func append(local time: Int64, withDate: Bool) {
    append((withDate ? 0 : 3)..<5, of: time, isLocal: true)
  }

  private mutating func append(_ range: Range<Int>, of time: Int64, isLocal: Bool) {
    var parts = InlineArray<6, Int32>(repeating: 0)
    var span = parts.mutableSpan
    unsafe span.withUnsafeMutableBufferPointer {
      unsafe csys_calendar_time(time / Microseconds.second, isLocal ? 1 : 0, $0.baseAddress)
    }
    for index in range {
      if index > range.lowerBound {
        append(index < 3 ? "-" : index > 3 ? ":" : isLocal ? " " : "T")
      }
      if parts[index] < 10 { append("0") }
      append(parts[index])
    }
  }
}
