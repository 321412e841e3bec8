import KnockBase

/// Says that an earlier server may have accepted knocks that this one does not know.
///
/// Those are stamped no later than its end + its drift, and so no later than the start of this server + that drift. The
/// clock may be wrong at the start and corrected later. So the start is not kept by that clock, but reckoned
/// from it each time.
struct Doubt: BitwiseCopyable {
  /// When this server started, in monotonic microseconds.
  let since: Int64
  /// The greatest drift that such a server may have allowed, in microseconds.
  let drift: Int64

  /// What is stamped up to this time (microseconds since the Unix epoch) may be a replay.
  func floor(at moment: Moment) -> Int64 {
    moment.wall.subtractingSaturated(moment.monotonic - since).addingSaturated(drift)
  }
}
