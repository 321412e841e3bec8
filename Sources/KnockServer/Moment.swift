/// A moment by two clocks, in microseconds.
public struct Moment: BitwiseCopyable, Sendable {
  /// Since the Unix epoch, by the clock that users set. It may be wrong, and jump.
  public let wall: Int64
  /// By a clock that nobody sets, and that does not stop while the machine sleeps.
  public let monotonic: Int64

  public init(wall: Int64, monotonic: Int64) {
    self.wall = wall
    self.monotonic = monotonic
  }

  /// The same moment by what the time stamp of a fresh knock confirms of our clock.
  func confirmed(by timeStamp: Int64) -> Moment {
    Moment(wall: min(wall, timeStamp), monotonic: monotonic)
  }
}
