/// All times and differences between them are in microseconds. Times by the wall clock count from the Unix epoch.
/// The program has no floating-point numbers.
public enum Microseconds {
  public static let millisecond: Int64 = 1000
  public static let second: Int64 = 1_000_000
  /// The longest drift and the greatest clock skew that mean anything: 10^12 seconds, 31,700 years.
  public static let longest: Int64 = 1_000_000_000_000 * second
}

extension Int64 {
  /// The sum, or the nearest number if it does not fit.
  public func addingSaturated(_ other: Int64) -> Int64 {
    let (sum, isOverflow) = addingReportingOverflow(other)
    return !isOverflow ? sum : other < 0 ? .min : .max
  }

  /// The difference, or the nearest number if it does not fit.
  public func subtractingSaturated(_ other: Int64) -> Int64 {
    let (difference, isOverflow) = subtractingReportingOverflow(other)
    return !isOverflow ? difference : other < 0 ? .max : .min
  }
}
