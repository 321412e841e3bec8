// The program that the container's server runs: it says that it was run, and as what.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  printf("witness: %s %s %s as %d, %s\n", argv[1], argv[2], argv[3], (int)getuid(), getenv("PYKNOCK_IP"));
  return 0;
}
