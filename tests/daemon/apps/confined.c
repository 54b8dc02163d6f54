/* A FastCGI program without any library, to be linked statically for a root folder with nothing else in it. It says what
 * its working directory and its user are. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    for (;;) {
        int connection = accept(0, NULL, NULL);
        unsigned char header[8], rest[65536 + 255];
        if (connection < 0)
            return 0;
        while (recv(connection, header, 8, MSG_WAITALL) == 8) {
            int content = header[4] << 8 | header[5];
            if (content + header[6] > 0 && recv(connection, rest, content + header[6], MSG_WAITALL) <= 0)
                break;
            if (header[1] == 5 && content == 0) {
                char folder[4096] = "?", answer[8192];
                getcwd(folder, sizeof folder);
                int length = snprintf(answer + 8, sizeof answer - 8, "X: y\r\n\r\n%s %d", folder, (int)getuid());
                unsigned char stdout_header[8] = {1, 6, 0, 1, length >> 8, length & 255, 0, 0};
                unsigned char end[16] = {1, 3, 0, 1, 0, 8, 0, 0};
                memcpy(answer, stdout_header, 8);
                memcpy(answer + 8 + length, end, 16);
                write(connection, answer, 8 + length + 16);
            }
        }
        close(connection);
    }
}
