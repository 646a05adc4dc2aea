// twill-holder [--no-standby] COMMAND [ARGUMENT...]: see holder.h.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cerrno>

#include "holder/holder.h"

int main(int argc, char** argv) {
  const bool has_standby = argc < 2 || strcmp(argv[1], "--no-standby") != 0;
  char** command = argv + (has_standby ? 1 : 2);
  if (argc < 2 || *command == nullptr || **command == '-') {
    fprintf(stderr,
            "Usage: twill-holder [--no-standby] COMMAND [ARGUMENT...]\n"
            "Runs the command, twilld say, keeps its descriptors when it is killed, and starts it again with them.\n"
            "A second process waits meanwhile, with its code loaded, so that this is quick; it takes some 50 MB.\n"
            "Below systemd it runs the command in its own place: the store of the service manager does the same\n"
            "(FileDescriptorStoreMax= in the unit).\n");
    return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
  }
  const char* manager = getenv("NOTIFY_SOCKET");
  if (manager != nullptr && *manager != '\0') {
    execvp(command[0], command);
    fprintf(stderr, "twill-holder: cannot run \"%s\": %s\n", command[0], strerror(errno));
    return 127;
  }
  return twill::holder::Holder(command, has_standby).Run();
}
