-- A small wholesaler: products on shelves in three warehouses, the suppliers they come from, reservations and orders.
create table suppliers (
  id text primary key, name text not null, email text not null, lead_time_days integer not null
);
create table products (
  sku text primary key, name text not null, warehouse text not null, on_hand integer not null,
  reserved integer not null default 0, reorder_level integer not null, unit_price real not null,
  supplier text not null references suppliers (id)
);
create table reservations (
  id integer primary key autoincrement, sku text not null, quantity integer not null, made_for text not null default ''
);
create table orders (
  id integer primary key autoincrement, sku text not null, quantity integer not null, status text not null
);

insert into suppliers values
  ('S-NORD', 'Nordlicht Supply', 'orders@nordlicht.example', 4),
  ('S-ATLAS', 'Atlas Components', 'sales@atlas.example', 9),
  ('S-KITE', 'Kite & Sons', 'hello@kite.example', 2);

insert into products (sku, name, warehouse, on_hand, reserved, reorder_level, unit_price, supplier) values
  ('SKU-11', 'desk lamp', 'DUB-1', 120, 4, 40, 24.50, 'S-NORD'),
  ('SKU-12', 'floor lamp', 'DUB-1', 35, 0, 20, 79.00, 'S-NORD'),
  ('SKU-13', 'light strip', 'DUB-2', 260, 10, 80, 12.90, 'S-NORD'),
  ('SKU-14', 'filament bulb', 'DUB-2', 900, 25, 300, 3.40, 'S-KITE'),
  ('SKU-15', 'smart bulb', 'DUB-2', 410, 30, 150, 14.20, 'S-ATLAS'),
  ('SKU-21', 'hex bolt box', 'ORK-1', 6, 0, 25, 9.10, 'S-ATLAS'),
  ('SKU-22', 'wall anchor box', 'ORK-1', 48, 0, 30, 7.75, 'S-ATLAS'),
  ('SKU-23', 'shelf bracket', 'ORK-1', 150, 12, 60, 4.95, 'S-KITE'),
  ('SKU-24', 'oak shelf board', 'ORK-1', 75, 5, 25, 31.00, 'S-KITE'),
  ('SKU-25', 'steel shelf board', 'ORK-1', 66, 0, 25, 27.50, 'S-ATLAS'),
  ('SKU-31', 'cordless drill', 'DUB-1', 32, 3, 10, 129.00, 'S-ATLAS'),
  ('SKU-32', 'drill bit set', 'DUB-1', 88, 0, 30, 22.40, 'S-ATLAS'),
  ('SKU-33', 'orbital sander', 'DUB-1', 19, 1, 8, 84.00, 'S-ATLAS'),
  ('SKU-34', 'sanding discs', 'DUB-1', 300, 0, 100, 6.20, 'S-KITE'),
  ('SKU-41', 'garden hose', 'DUB-2', 54, 0, 20, 26.80, 'S-KITE'),
  ('SKU-42', 'hose reel', 'DUB-2', 4, 0, 10, 45.00, 'S-KITE'),
  ('SKU-43', 'watering can', 'DUB-2', 97, 2, 30, 13.30, 'S-KITE'),
  ('SKU-51', 'office chair', 'DUB-1', 28, 6, 10, 189.00, 'S-NORD'),
  ('SKU-52', 'standing desk', 'DUB-1', 14, 2, 5, 420.00, 'S-NORD'),
  ('SKU-53', 'monitor arm', 'DUB-1', 61, 0, 20, 74.00, 'S-NORD'),
  ('SKU-54', 'cable tray', 'DUB-1', 133, 0, 50, 18.60, 'S-NORD'),
  ('SKU-55', 'desk organiser', 'DUB-1', 42, 0, 15, 19.99, 'S-NORD'),
  ('SKU-61', 'paint roller', 'ORK-1', 210, 0, 70, 5.60, 'S-KITE'),
  ('SKU-62', 'masking tape', 'ORK-1', 640, 40, 200, 2.90, 'S-KITE'),
  ('SKU-63', 'wall paint, white', 'ORK-1', 83, 0, 30, 34.90, 'S-ATLAS');
