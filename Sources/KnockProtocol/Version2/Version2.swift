/// Version 2 of the datagram: bytes that look random to anyone without a key of the server. doc/PROTOCOL.md has the
/// format.
public enum Version2 {
  /// The length of a request (bytes).
  public static let requestSize = 72
  /// The length of an answer (bytes). It is shorter than the request, so that nobody gains from a forged source.
  public static let answerSize = 64
  /// The length of the tag at the start of both (bytes).
  public static let tagSize = 32
  /// The length of a key as text (bytes).
  public static let keyTextSize = 74
}
