// The program that the server in the container runs. It prints its arguments and its user.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  printf("witness: %s %s %s as %d, %s\n", argv[1], argv[2], argv[3], (int)getuid(), getenv("PYKNOCK_IP"));
  return 0;
}
