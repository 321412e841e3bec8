import CSystem

enum Clock {
  /// Seconds since the Unix epoch, by the system's clock. Source: clock_gettime(2).
  static func wallSeconds() -> Double { csys_wall_clock() }

  /// Milliseconds since some moment, by a clock that nobody sets. Source: clock_gettime(2).
  static func monotonicMilliseconds() -> Int64 { csys_monotonic_milliseconds() }
}
