/// The version of the program; the one place that has it.
let version: StaticString = "1.0.0"
