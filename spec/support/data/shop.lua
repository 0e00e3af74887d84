-- A small project: shops that sell products. Its schema, and correct scripts.
local shop = {}

shop.schema = [[
  create table shops (id uuid primary key, name text not null);
  create table products (
    shop_id uuid not null references shops, id uuid not null, sku text not null,
    price numeric(12, 2) not null, stock int not null default 0, sold_on date, note text,
    primary key (shop_id, id), constraint products_sku_key unique (shop_id, sku));
  create table orders (
    shop_id uuid not null references shops, id uuid not null, number varchar(12) not null,
    product_id uuid not null, quantity int not null, made_at timestamptz not null default now(),
    details jsonb, primary key (shop_id, id),
    foreign key (shop_id, product_id) references products,
    constraint orders_quantity_check check (quantity > 0));
  create table secrets (id int primary key, word text not null);
  create table audit (id int primary key, word text);
  create function total(int, int) returns int language sql immutable as 'select $1 * $2';
  alter table products enable row level security;
  alter table orders enable row level security;
  create policy own on products using (
    shop_id = nullif(current_setting('app.shop_id', true), '')::uuid);
  create policy own on orders using (
    shop_id = nullif(current_setting('app.shop_id', true), '')::uuid);
  grant select on shops to moonpool_app;
  grant select, insert, delete on audit to moonpool_app;
  grant select, insert, update, delete on products, orders to moonpool_app;
]]

--- An operation's file: its fields beside the usual ones, and the body of `run`.
---@param body string
---@param fields? string
---@param head? string  what stands in front of it
function shop.operation(body, fields, head)
  return ([[
local moonpool = require "moonpool"
local is       = require "moonpool.is"
%s
return moonpool.operation {
  input  = is.object { shop_id = is.uuid, product_id = is.uuid, sku = is.string:max(20),
                       quantity = is.integer:min(1), price = is.decimal:scale(2),
                       order = is.enum { "sku", "price" }:default("sku"),
                       tags = is.array(is.string):optional() },
  tenant = "shop_id",
%s
  run = function(tx, input)
%s
  end,
}
]]):format(head or "", fields or "", body)
end

return shop
