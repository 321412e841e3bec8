// swift-tools-version: 6.2
import PackageDescription

// The Embedded feature itself is switched on by the build (`make`), not here: the same sources
// compile as regular Swift for the tests and as Embedded Swift for the program that is shipped.
let settings: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .treatWarning("EmbeddedRestrictions", as: .error),
]

let package = Package(
  name: "pyknock",
  targets: [
    .target(name: "CSystem"),
    .target(name: "CSodium", linkerSettings: [.linkedLibrary("sodium")]),
    .target(name: "KnockProtocol", swiftSettings: settings),
    .target(name: "Netfilter", dependencies: ["KnockProtocol"], swiftSettings: settings),
    .target(
      name: "Knock", dependencies: ["CSystem", "CSodium", "KnockProtocol", "Netfilter"],
      swiftSettings: settings),
    .executableTarget(name: "pyknock", dependencies: ["Knock"]),
    .target(name: "TestSupport", dependencies: ["KnockProtocol"], path: "Tests/TestSupport"),
    .testTarget(name: "KnockProtocolTests", dependencies: ["KnockProtocol", "TestSupport"]),
    .testTarget(
      name: "NetfilterTests", dependencies: ["Netfilter", "KnockProtocol", "TestSupport"]),
    .testTarget(name: "KnockTests", dependencies: ["Knock", "KnockProtocol"]),
  ]
)
