<?php
// What a Symfony application does with symfony/mercure, unmodified: argv is the hub's URL, its publishers' key as a token.
// Prints the id of each update, as JSON.

require '/usr/share/php/Symfony/Component/Mercure/autoload.php';
require_once '/usr/share/php/Symfony/Component/HttpClient/autoload.php';

use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

[, $url, $token] = $argv;
$hub = new Hub($url, new StaticTokenProvider($token));
$ids = [
    $hub->publish(new Update('https://example.com/books/1', json_encode(['title' => "L'Été\r\n& +%"]))),
    $hub->publish(new Update(['https://example.com/books/2', '/alt/é'], 'private', true)),
    $hub->publish(new Update('https://example.com/books/3', "two\nlines", false, 'urn:uuid:mine', 'book', 1500)),
    $hub->publish(new Update('https://example.com/books/4')),
];
// A token of subscribers is none of publishers: the library says so by an exception.
try {
    (new Hub($url, new StaticTokenProvider($argv[3])))->publish(new Update('x'));
    $ids[] = 'published';
} catch (Symfony\Component\Mercure\Exception\RuntimeException $refused) {
    $ids[] = get_class($refused->getPrevious());
}
echo json_encode($ids);
