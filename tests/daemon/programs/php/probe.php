<?php
// The pages of probe.md in PHP. What ends the program after some requests is its own PHP_FCGI_MAX_REQUESTS.

const PATTERN = 65521;

function number(string $name): int
{
    return (int) ($_GET[$name] ?? 0);
}

function own_stderr(string $line): void
{
    file_put_contents('php://stderr', "$line\n");
}

header('Content-Type: application/octet-stream');
while (ob_get_level() > 0) {
    ob_end_clean();
}
switch (basename($_SERVER['DOCUMENT_URI'])) {
    case 'teapot':
        header("HTTP/1.1 418 I'm a teapot");
        echo "short and stout\n";
        break;
    case 'crash':
        own_stderr('about to crash');
        posix_kill(getmypid(), 11);
        break;
    case 'pid':
        echo getmypid();
        break;
    case 'show':
        foreach (['REQUEST_METHOD', 'QUERY_STRING', 'CONTENT_LENGTH', 'HTTP_HOST', 'HTTP_PROXY', 'REMOTE_ADDR'] as $name) {
            echo "$name=", $_SERVER[$name] ?? '', "\n";
        }
        break;
    case 'environment':
        // getenv() shows the request's parameters; what is started here is passed what the program was.
        echo shell_exec('env');
        break;
    case 'echo':
        $body = fopen('php://input', 'rb');
        while (($bytes = fread($body, 65536)) !== false && $bytes !== '') {
            echo $bytes;
        }
        break;
    case 'store':
        echo file_get_contents('php://input');
        break;
    case 'count':
        $count = 0;
        $body = fopen('php://input', 'rb');
        while (($bytes = fread($body, 65536)) !== false && $bytes !== '') {
            $count += strlen($bytes);
        }
        echo $count;
        break;
    case 'make':
        $pattern = implode(array_map(fn ($at) => chr(($at * 7 + intdiv($at, 256)) % 251), range(0, PATTERN - 1)));
        for ($left = number('bytes'); $left > 0; $left -= PATTERN) {
            echo $left < PATTERN ? substr($pattern, 0, $left) : $pattern;
        }
        break;
    case 'slow':
        usleep(1000 * number('ms'));
        echo 'slept';
        break;
    case 'opcache':
        usleep(1000 * number('ms'));
        $status = opcache_get_status(false)['opcache_statistics'];
        echo getmypid(), ' ', $status['hits'], ' ', $status['misses'];
        break;
    case 'complain':
        error_log("a word on the request's stderr");
        own_stderr("a word on the program's stderr");
        echo 'complained';
        break;
    case 'halfway':
        echo str_repeat('x', 100_000);
        flush();
        posix_kill(getmypid(), 11);
        break;
    default:
        echo 'no such page: ', $_SERVER['DOCUMENT_URI'];
}
