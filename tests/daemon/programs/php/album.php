<?php
// A small application: visitors log in, upload pictures (here: any file) and look at them. Who somebody is and what is
// theirs is in the session; the files lie in the folder ALBUM.

ini_set('session.use_strict_mode', '1');
session_start();
$album = $_SERVER['ALBUM'];

function page(string $body, int $status = 200): never
{
    http_response_code($status);
    header('Content-Type: text/html; charset=utf-8');
    echo "<!DOCTYPE html><title>album</title>$body";
    exit;
}

switch ("{$_SERVER['REQUEST_METHOD']} " . basename($_SERVER['DOCUMENT_URI'])) {
    case 'POST login':
        session_regenerate_id(true);
        $_SESSION = ['name' => $_POST['name'], 'uploads' => []];
        http_response_code(303);
        header('Location: /album/');
        exit;
    case 'POST logout':
        session_destroy();
        page('bye');
    case 'POST upload':
        isset($_SESSION['name']) || page('log in first', 403);
        $file = $_FILES['picture'] ?? null;
        ($file['error'] ?? 1) === UPLOAD_ERR_OK || page('no picture has come: ' . json_encode($file), 400);
        $stored = bin2hex(random_bytes(8));
        move_uploaded_file($file['tmp_name'], "$album/$stored") || page('it cannot be stored', 500);
        $_SESSION['uploads'][$stored] = $file['name'];
        page("stored <a href=\"picture?id=$stored\">" . htmlspecialchars($file['name']) . "</a> {$file['size']} "
            . hash_file('sha256', "$album/$stored") . " by {$_SESSION['name']}");
    case 'GET picture':
        $stored = $_GET['id'] ?? '';
        isset($_SESSION['uploads'][$stored]) || page('no such picture', 404);
        header('Content-Type: application/octet-stream');
        header('Content-Length: ' . filesize("$album/$stored"));
        readfile("$album/$stored");
        exit;
    case 'GET album':
        isset($_SESSION['name']) || page('who are you?', 403);
        $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
        page("Hello, {$_SESSION['name']}. Visit {$_SESSION['visits']}, " . count($_SESSION['uploads'])
            . ' pictures. Made by <b>' . getmypid() . '</b>');
    default:
        page('no such page', 404);
}
