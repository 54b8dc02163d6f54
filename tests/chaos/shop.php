<?php
// The same as shop.py, for the pool of a program.

$request = $_GET['id'];

function note(string $what): void
{
    global $request;
    file_put_contents(getenv('CHAOS_JOURNAL'), "$what $request " . getmypid() . "\n", FILE_APPEND);
}

function text(int $length): string
{
    global $request;
    return substr(str_repeat("$request\n", intdiv($length, strlen($request) + 1) + 1), 0, $length);
}

note('begun');
header('Content-Type: text/plain');
switch (basename(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH))) {
    case 'page':
        echo text(1000);
        break;
    case 'slow':
        usleep($_GET['ms'] * 1000);
        echo text(1000);
        break;
    case 'upload':
        echo hash('crc32b', file_get_contents('php://input'));
        break;
    case 'stream':
        foreach (str_split(text($_GET['pieces'] * 4096), 4096) as $piece) {
            echo $piece;
            flush();
            usleep($_GET['ms'] * 1000);
        }
        break;
}
note('ended');
